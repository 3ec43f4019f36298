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
  # As native inputs they are the building machine's, also when the image is for another architecture.
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
        # Files on the disk name store paths, as do init= and loader entries. Nix must not take them for its own, or
        # whoever keeps the image keeps the whole system beside it.
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
