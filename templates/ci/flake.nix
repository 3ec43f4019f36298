{
  description = "A machine of mine, tested by CI";

  # Where this template came from. Older Nix finds this name in your registry; any Nix accepts the full reference.
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
