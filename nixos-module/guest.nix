# Makes a NixOS machine a VM of virshle. It works on cloud-hypervisor and on QEMU, with a disk of any size. There is no
# virshle in the guest: the host gives it data on a small disk (docs/templates.md), and the guest sends systemd's own
# messages to the host.
{
  config,
  lib,
  modulesPath,
  ...
}:
let
  inherit (lib) mkIf mkOption types;
  inherit (import ./priority.nix lib) prefer;
  cfg = config.virshle.guest;
in
{
  imports = [
    (modulesPath + "/profiles/minimal.nix")
    (modulesPath + "/profiles/qemu-guest.nix")
    ./boot.nix
    ./image.nix
    ./network.nix
    ./ready.nix
    ./seed.nix
    ./ssh.nix
  ];

  options.virshle.guest = {
    boot = mkOption {
      type = types.enum [
        "kernel"
        "efi"
      ];
      default = "kernel";
      description = ''
        How the machine boots. `kernel`: the host loads the kernel and the initrd, which are copied from the image when
        the VM is created. This is the fastest way, and every VMM can do it. A `nixos-rebuild` in the VM changes
        everything except these two. `efi`: systemd-boot on the VM's own disk boots it, and each generation has its own
        kernel.
      '';
    };
    user = mkOption {
      type = types.str;
      default = "root";
      example = "alice";
      description = ''
        The user that `v ssh` logs in as, with keys that the host gives at each start. It must be the same as `user` in
        the template. If it is not root, the user is created and may use sudo.
      '';
    };
    cloudInit = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether cloud-init applies the host's user data, mainly users (`v create -u`). Without cloud-init, a few lines
        of shell take the name and the keys from the same disk, and the image is about 200 MB of Python smaller.
      '';
    };
    espSize = mkOption {
      type = types.ints.between 64 2047;
      default = 256;
      description = "MiB of the EFI system partition. For `boot = \"efi\"`, it has a kernel and an initrd of each generation.";
    };
  };

  config = {
    # The user who can open the console can also read the disk, so a password would protect nothing.
    services.getty.autologinUser = prefer "root";
    # NixOS cannot know that keys come at run time.
    users.allowNoPasswordLogin = prefer true;
    users.users = mkIf (cfg.user != "root") {
      ${cfg.user} = {
        isNormalUser = prefer true;
        extraGroups = [ "wheel" ];
      };
    };
    security.sudo.wheelNeedsPassword = mkIf (cfg.user != "root") (prefer false);

    # `nixos-rebuild --flake` works in the guest. Things that only a desktop needs are off.
    nix.settings.experimental-features = prefer [
      "nix-command"
      "flakes"
    ];
    nix.channel.enable = prefer false;
    boot.enableContainers = prefer false;
    fonts.fontconfig.enable = prefer false;
  };
}
