# What `nix flake check` does. mypy and the formatting of Nix are not here: their verdict changes with nixpkgs, and
# scripts/test pins it. Nor are the layers: nixpkgs has no import-linter.
{
  self,
  nixpkgs,
  pkgs,
  system,
}:
let
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

  # Whole NixOS systems are evaluated for this, and none is built.
  evaluated = config: builtins.unsafeDiscardStringContext config.system.build.virshleImage.drvPath;
  guests = builtins.mapAttrs (
    _: modules:
    evaluated
      (nixpkgs.lib.nixosSystem {
        inherit system;
        modules = [ self.nixosModules.guest ] ++ modules;
      }).config
  ) (import ../tests/nix/configurations.nix);
  # As a user's flake, with this one for its input.
  template =
    path:
    let
      flake = (import (path + "/flake.nix")).outputs {
        self = flake;
        inherit nixpkgs;
        virshle = self;
      };
    in
    evaluated flake.nixosConfigurations.web.config;
in
{
  inherit v;

  lint = inSource "lint" [ python pkgs.ruff pkgs.shellcheck ] ''
    ruff check --no-cache .
    shellcheck -x scripts/* nixos-module/*.sh tests/nix/debian/*.sh templates/*/test
  '';

  # nixpkgs' Python is newer than the tests' own: what it will not have for ever is no failure.
  unit = inSource "unit" [ python ] "python -m pytest -q -p no:cacheprovider -W default tests/unit";

  # Built where the builder has KVM, as all of NixOS's own tests of VMs.
  host = import ./host-test.nix {
    inherit pkgs v;
    image = self.packages.${system}.image-nixos;
  };

  guests = pkgs.writeText "virshle-guests.json" (builtins.toJSON guests);

  templates = pkgs.writeText "virshle-templates.json" (
    builtins.toJSON {
      guest = template ../templates/guest;
      ci = template ../templates/ci;
    }
  );
}
