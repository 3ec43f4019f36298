# Kernel, consoles, file systems and the boot loader.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkIf;
  cfg = config.virshle.guest;
  efi = cfg.boot == "efi";
  serial = if pkgs.stdenv.hostPlatform.isAarch64 then "ttyAMA0" else "ttyS0";
in
{
  boot.initrd.systemd.enable = mkDefault true;
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

  fileSystems = {
    "/" = {
      device = "/dev/disk/by-label/nixos";
      fsType = "ext4";
      # The host grows the disk to the template's size, whenever that is.
      autoResize = true;
    };
    "/boot" = mkIf efi {
      device = "/dev/disk/by-label/ESP";
      fsType = "vfat";
      options = [ "umask=0077" ];
    };
  };
  boot.growPartition = mkDefault efi;

  boot.loader = {
    grub.enable = false;
    timeout = mkDefault 0;
    systemd-boot = mkIf efi {
      enable = true;
      configurationLimit = mkDefault 3;
    };
    # The VMM may keep no variables. The firmware finds EFI/BOOT without any.
    efi.canTouchEfiVariables = mkIf efi false;
  };
  # The host boots the system profile itself, so `nixos-rebuild` has nothing to install.
  system.build.installBootLoader = mkIf (!efi) "${pkgs.coreutils}/bin/true";
}
