# The checks of `nix flake check`. mypy and the format of Nix files are not here: their results change with nixpkgs, and
# scripts/test pins mypy. The layers are not here either: nixpkgs has no import-linter.
{
  self,
  nixpkgs,
  pkgs,
  system,
}:
let
  inherit (self.packages.${system}) v;

  # Runs a script in a writable copy of the source, because some of the tools write to it.
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

  # This evaluates whole NixOS systems, and builds none.
  evaluated = config: builtins.unsafeDiscardStringContext config.system.build.virshleImage.drvPath;
  guests = builtins.mapAttrs (
    _: modules:
    evaluated
      (nixpkgs.lib.nixosSystem {
        inherit system;
        modules = [ self.nixosModules.guest ] ++ modules;
      }).config
  ) (import ../tests/nix/configurations.nix);
  # Evaluates a template like a user's flake whose input is this flake.
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

  # nixpkgs' Python is newer than the one that the tests pin, so its deprecation warnings must not fail a test.
  unit = inSource "unit" [ python ] "python -m pytest -q -p no:cacheprovider -W default tests/unit";

  # Needs a builder with KVM, like all tests of NixOS that run VMs.
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
