# Functions for the flakes of users.
{ self, nixpkgs }:
{
  # Makes an image of a NixOS machine from these modules. A machine in `nixosConfigurations` does not need this: if
  # nixosModules.guest is one of its modules, its image is config.system.build.virshleImage.
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
        # The machine has no state yet, so its stateVersion is the present release. Without a value NixOS warns.
        ({ config, lib, ... }: { system.stateVersion = lib.mkDefault config.system.nixos.release; })
      ]
      ++ modules;
    }).config.system.build.virshleImage;
}
