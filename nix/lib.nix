# For flakes of users.
{ self, nixpkgs }:
{
  # An image of a NixOS machine made of these modules. A machine that stands in `nixosConfigurations` needs this not:
  # with nixosModules.guest among its modules its image is config.system.build.virshleImage.
  mkImage =
    {
      system,
      modules ? [ ],
      specialArgs ? { },
    }:
    (nixpkgs.lib.nixosSystem {
      inherit system specialArgs;
      modules = [
        self.nixosModules.guest
        # What has no state yet is of this release; without it NixOS warns.
        ({ config, lib, ... }: { system.stateVersion = lib.mkDefault config.system.nixos.release; })
      ]
      ++ modules;
    }).config.system.build.virshleImage;
}
