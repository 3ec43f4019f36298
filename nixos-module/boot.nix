# Kernel, consoles, file systems and the boot loader.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkIf;
  inherit (import ./priority.nix lib) prefer shape;
  cfg = config.virshle.guest;
  efi = cfg.boot == "efi";
  serial = if pkgs.stdenv.hostPlatform.isAarch64 then "ttyAMA0" else "ttyS0";
in
{
  boot.initrd.systemd.enable = prefer true;
  # Before systemd looks for a vsock: that is when it begins, and says ready over it (microvm.nix#512).
  boot.initrd.kernelModules = [
    "vsock"
    "vmw_vsock_virtio_transport"
  ];

  # The last is /dev/console, which the host keeps a log of. A console that the machine has not got does no harm.
  boot.kernelParams = [
    "console=hvc0"
    "console=${serial}"
    # The kernel panics where its timer is late at the check, as an emulated one on a busy machine is.
    "no_timer_check"
  ];

  # Labels too: NixOS refuses one that is not the device's (nixos/modules/tasks/filesystems.nix).
  fileSystems = {
    "/" = {
      device = shape "/dev/disk/by-label/nixos";
      label = shape "nixos";
      fsType = shape "ext4";
      # The host grows the disk to the template's size, whenever that is.
      autoResize = prefer true;
    };
    "/boot" =
      if efi then
        {
          device = shape "/dev/disk/by-label/ESP";
          label = shape "ESP";
          fsType = shape "vfat";
          options = [ "umask=0077" ];
        }
      else
        # There is no such partition. A machine that waited for one would not boot.
        { enable = shape false; };
  };
  # Without a partition there is none to grow, and the service would fail.
  boot.growPartition = if efi then prefer true else shape false;

  boot.loader = {
    grub.enable = shape false;
    timeout = prefer 0;
    systemd-boot = {
      enable = shape efi;
      configurationLimit = prefer 3;
    };
    efi = {
      # The VMM may keep no variables. The firmware finds EFI/BOOT without any.
      canTouchEfiVariables = shape false;
      efiSysMountPoint = shape "/boot";
    };
  };
  # The host boots the system profile itself, so `nixos-rebuild` has nothing to install.
  system.build.installBootLoader = mkIf (!efi) (shape "${pkgs.coreutils}/bin/true");
}
