{
  description = "A machine of mine";

  # Whence you have this template. A name in your registry does for older Nix; what the name stands for, for any.
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
