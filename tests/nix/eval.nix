# The summary of a guest: by real NixOS where `nixpkgs` is whole, else by nixpkgs' module system (its lib alone) and the
# options in ./nixos, which are typed as NixOS types them.
{
  nixpkgs,
  name,
  # A module besides those of the configuration.
  more ? { },
}:
let
  path = /. + nixpkgs;
  whole = builtins.pathExists (path + "/nixos/lib/eval-config.nix");
  modules = [
    ../../nixos-module/guest.nix
  ]
  ++ (import ./configurations.nix).${name}
  ++ [ more ];
  lib = import (if builtins.pathExists (path + "/lib/modules.nix") then path + "/lib" else path);
  config =
    if whole then
      (import (path + "/nixos/lib/eval-config.nix") {
        system = "x86_64-linux";
        inherit modules;
      }).config
    else
      import ./nixos { inherit lib modules; };
in
{
  inherit whole;
  summary = import ./summary.nix config;
  # Evaluated to the end, though not built.
  image = builtins.unsafeDiscardStringContext config.system.build.virshleImage.drvPath;
}
