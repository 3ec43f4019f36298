# system.build.virshleImage: a folder with disk.raw and, for direct kernel boot, kernel, initrd and cmdline.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.virshle.guest;
  inherit (config.system.build) toplevel;
  # As native inputs, these programs are for the building machine, even if the image is for another architecture.
  image =
    {
      runCommand,
      closureInfo,
      dosfstools,
      e2fsprogs,
      fakeroot,
      mtools,
      nix,
      sqlite,
      util-linux,
    }:
    runCommand "virshle-image-${config.system.name}"
      {
        # Files on the disk name store paths, and so do init= and the loader entries. Nix must not see these names as
        # references: then to keep the image would also keep the whole system beside it.
        __structuredAttrs = true;
        unsafeDiscardReferences.out = true;

        nativeBuildInputs = map lib.getBin [
          dosfstools
          e2fsprogs
          fakeroot
          mtools
          nix
          sqlite
          util-linux
        ];
        inherit (cfg) boot espSize;
        inherit toplevel;
        closure = closureInfo { rootPaths = [ toplevel ]; };
        efiArch = pkgs.stdenv.hostPlatform.efiArch;
        systemd = config.systemd.package;
        loader = if config.boot.loader.timeout == null then "menu-force" else toString config.boot.loader.timeout;
      }
      ''
        # Apart from stdenv's shell, whose own code is not written for all that this sets.
        (source ${./make-image.sh})
      '';
in
{
  system.build.virshleImage = pkgs.buildPackages.callPackage image { };
}
