# A NixOS machine as a VM of virshle's. It holds on cloud-hypervisor and on QEMU, for any size of disk, and knows no
# virshle inside: what the host tells it stands on a small disk (docs/templates.md), what it tells the host are
# systemd's own words.
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
        How it boots. `kernel`: the host loads kernel and initrd, which are copied from the image when the VM is
        created. The fastest, and any VMM can; a `nixos-rebuild` inside changes all but these two. `efi`: by
        systemd-boot on its own disk, whose every generation brings its kernel.
      '';
    };
    user = mkOption {
      type = types.str;
      default = "root";
      example = "alice";
      description = ''
        Whom `v ssh` logs in as, by keys that the host gives at each start: the same as `user` in the template. Another
        than root is made, and may use sudo.
      '';
    };
    cloudInit = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether cloud-init does what the host's user data says, users above all (`v create -u`). Without it name and
        keys are taken from the same disk by a few lines of shell, and some 200 MB of Python are spared.
      '';
    };
    espSize = mkOption {
      type = types.ints.between 64 2047;
      default = 256;
      description = "MiB of the EFI system partition, where each generation of `boot = \"efi\"` has a kernel and an initrd.";
    };
  };

  config = {
    # Who holds the console holds the machine: its owner could read the disk as well.
    services.getty.autologinUser = prefer "root";
    # Keys come at run time, which NixOS cannot know.
    users.allowNoPasswordLogin = prefer true;
    users.users = mkIf (cfg.user != "root") {
      ${cfg.user} = {
        isNormalUser = prefer true;
        extraGroups = [ "wheel" ];
      };
    };
    security.sudo.wheelNeedsPassword = mkIf (cfg.user != "root") (prefer false);

    # `nixos-rebuild --flake` inside, and nothing that only a person at a desk needs.
    nix.settings.experimental-features = prefer [
      "nix-command"
      "flakes"
    ];
    nix.channel.enable = prefer false;
    boot.enableContainers = prefer false;
    fonts.fontconfig.enable = prefer false;
  };
}
