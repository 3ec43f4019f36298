# The guest module on a real systemd, where there is no nixpkgs: the image of a machine made of Debian packages, which
# stand where NixOS has its own. All that nixos-module/ declares is taken from its evaluation, as is the image, which is
# config.system.build.virshleImage: the module's units, files, parameters and maker of images, with not a word changed.
{
  # nixpkgs, or its lib alone.
  nixpkgs,
  # A JSON file: [{"name": "mtools", "url": "..", "sha256": ".."}], by apt (tests/host/debian.py).
  debs,
  # PATH of this machine, whose programs make the image.
  path,
  boot ? "kernel",
}:
let
  folder = /. + nixpkgs;
  lib = import (if builtins.pathExists (folder + "/lib/modules.nix") then folder + "/lib" else folder);
  packages = import ./packages.nix {
    inherit lib path;
    debs = builtins.fromJSON (builtins.readFile (/. + debs));
  };
in
(import ../nixos {
  inherit lib;
  real = packages.nixpkgs;
  modules = [
    ../../../nixos-module/guest.nix
    {
      virshle.guest.boot = boot;
      system.name = "debian";
      # What costs seconds of emulation and tests nothing.
      boot.kernelParams = [
        "cryptomgr.notests"
        "lsm=landlock"
        "mitigations=off"
        "quiet"
        "systemd.show_status=false"
      ];
    }
    ./services.nix
    (
      { config, ... }:
      {
        system.build.toplevel = lib.mkForce (import ./system.nix { inherit config lib packages; });
      }
    )
  ];
}).system.build.virshleImage
