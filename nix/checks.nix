# What `nix flake check` does. mypy and the formatting of Nix are not here: their verdict changes with nixpkgs, and
# scripts/test pins it.
{
  self,
  nixpkgs,
  system,
}:
let
  pkgs = nixpkgs.legacyPackages.${system};
  inherit (self.packages.${system}) v;

  # In a copy of the source that can be written to, which some of the tools do.
  inSource =
    name: tools: script:
    pkgs.runCommand "virshle-${name}" { nativeBuildInputs = tools; } ''
      cp -r ${self} source
      chmod -R u+w source
      cd source
      export HOME=$TMPDIR
      ${script}
      touch $out
    '';
  python = pkgs.python3.withPackages (import ./python.nix);

  summary = import ../tests/nix/summary.nix;
  configurations = import ../tests/nix/configurations.nix;
  evaluated =
    name: modules:
    (nixpkgs.lib.nixosSystem {
      inherit system;
      modules = [ self.nixosModules.guest ] ++ modules;
    }).config;
in
{
  inherit v;

  lint = inSource "lint" [ python pkgs.ruff pkgs.shellcheck ] ''
    ruff check --no-cache .
    lint-imports --no-cache
    shellcheck -x scripts/* nixos-module/*.sh
  '';

  unit = inSource "unit" [ python ] "pytest -q -p no:cacheprovider tests/unit";

  # Whole NixOS systems are evaluated for this, and none is built.
  guest = pkgs.writeText "virshle-guests.json" (
    builtins.toJSON (
      builtins.mapAttrs (
        name: modules:
        let
          config = evaluated name modules;
        in
        {
          toplevel = builtins.unsafeDiscardStringContext config.system.build.toplevel.drvPath;
          image = builtins.unsafeDiscardStringContext config.system.build.virshleImage.drvPath;
          summary = builtins.unsafeDiscardStringContext (builtins.toJSON (summary config));
        }
      ) configurations
    )
  );
}
