{
  description = "virshle: VMs from templates, on bare VMM processes";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      each =
        make:
        nixpkgs.lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
        ] (system: make system nixpkgs.legacyPackages.${system});
      # The store path of this flake: a packaged `v` builds images from exactly the flake that it came from, without a
      # network. The path does not have the revision in it, so it is added, to be recorded with each image.
      flake = "path:${self}" + (if self ? rev then "?rev=${self.rev}" else "");
    in
    {
      packages = each (system: pkgs: rec {
        default = v;
        v = pkgs.callPackage ./nix/package.nix { inherit flake; };
        image-nixos = self.lib.mkImage { inherit system; };
        image-tiny = import ./virshle/image/tiny/nixpkgs.nix { inherit pkgs; };
      });

      apps = each (system: _: rec {
        default = v;
        v = {
          type = "app";
          program = "${self.packages.${system}.v}/bin/v";
          meta.description = "make, run and enter VMs";
        };
      });

      overlays.default = final: _: { virshle = final.callPackage ./nix/package.nix { inherit flake; }; };

      # The module for a guest. It is not named `default`: a server that imports it by mistake would log root in on its
      # consoles.
      nixosModules.guest.imports = [ ./nixos-module/guest.nix ];

      lib = import ./nix/lib.nix { inherit self nixpkgs; };

      templates = {
        guest = {
          path = ./templates/guest;
          description = "a NixOS machine of your own, as an image for virshle";
          welcomeText = "Name virshle in flake.nix, edit web.nix, then:  VIRSHLE_CONFIG=$PWD/virshle.toml nix run .#v -- create -t web --start --wait";
        };
        ci = {
          path = ./templates/ci;
          description = "the same, built and booted by GitHub Actions";
          welcomeText = "Name virshle in flake.nix, edit web.nix, then push. The same on your machine:  bash test";
        };
        default = self.templates.guest;
      };

      devShells = each (_: pkgs: { default = pkgs.callPackage ./nix/shell.nix { }; });

      checks = each (system: pkgs: import ./nix/checks.nix { inherit self nixpkgs pkgs system; });

      formatter = each (_: pkgs: pkgs.nixfmt-tree);
    };
}
