{
  description = "A machine of mine, tested by CI";

  # Whence you have this template, by the name it has in `nix registry list`; or any other reference to virshle.
  inputs.virshle.url = "flake:virshle";
  inputs.nixpkgs.follows = "virshle/nixpkgs";

  outputs =
    {
      self,
      nixpkgs,
      virshle,
    }:
    {
      nixosConfigurations.web = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [
          virshle.nixosModules.guest
          ./web.nix
        ];
      };

      # `nix run .#v`: the virshle that flake.lock pins.
      packages = nixpkgs.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: {
        inherit (virshle.packages.${system}) v;
      });
    };
}
