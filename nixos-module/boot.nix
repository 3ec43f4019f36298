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
  # These must be loaded before systemd starts: it looks for a vsock then, to report over it that it is ready
  # (microvm.nix#512).
  boot.initrd.kernelModules = [
    "vsock"
    "vmw_vsock_virtio_transport"
  ];

  # The last one is /dev/console, and the host keeps a log of it. A console that the machine does not have does no harm.
  boot.kernelParams = [
    "console=hvc0"
    "console=${serial}"
    # The kernel panics if its timer is late at this check. The timer is late on an emulated, busy machine.
    "no_timer_check"
  ];

  # Labels too: NixOS refuses a label that differs from the device's (nixos/modules/tasks/filesystems.nix).
  fileSystems = {
    "/" = {
      device = shape "/dev/disk/by-label/nixos";
      label = shape "nixos";
      fsType = shape "ext4";
      # The host may grow the disk to the template's size.
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
        # There is no such partition, and a machine that waits for it does not boot.
        { enable = shape false; };
  };
  # Without a partition the service has nothing to grow, and would fail.
  boot.growPartition = if efi then prefer true else shape false;

  boot.loader = {
    grub.enable = shape false;
    timeout = prefer 0;
    systemd-boot = {
      enable = shape efi;
      configurationLimit = prefer 3;
    };
    efi = {
      # The VMM may not keep UEFI variables. The firmware finds EFI/BOOT without them.
      canTouchEfiVariables = shape false;
      efiSysMountPoint = shape "/boot";
    };
  };
  # The host itself boots the system profile, so `nixos-rebuild` has no boot loader to install.
  system.build.installBootLoader = mkIf (!efi) (shape "${pkgs.coreutils}/bin/true");
}
