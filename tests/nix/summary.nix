# What nixosModules.guest makes of a machine, as data: of an evaluated NixOS, or of the options in tests/nix/nixos.
config:
let
  pick = names: set: builtins.listToAttrs (map (name: { inherit name; value = set.${name}; }) names);
  # Ours among all that NixOS has.
  ours =
    units:
    pick (builtins.filter (name: builtins.match "virshle-.*" name != null) (builtins.attrNames units)) units;

  # NixOS writes all else of a unit into unitConfig as well.
  conditions = set: pick (builtins.filter (name: builtins.match "Condition.*" name != null) (builtins.attrNames set)) set;
  unit =
    value:
    pick [ "description" "after" "before" "wants" "wantedBy" ] value
    // { unitConfig = conditions value.unitConfig; };
  service =
    value:
    unit value
    // {
      # NixOS adds its own to both.
      environment = builtins.removeAttrs value.environment [
        "LOCALE_ARCHIVE"
        "PATH"
        "TZDIR"
      ];
      serviceConfig =
        if value.script == "" then
          value.serviceConfig
        else
          builtins.removeAttrs value.serviceConfig [ "ExecStart" ];
      inherit (value) restartIfChanged;
    };
  socket = value: unit value // pick [ "listenStreams" "socketConfig" ] value;
in
{
  kernelParams = builtins.filter (word: builtins.match "console=.*|no_timer_check" word != null) config.boot.kernelParams;
  initrd = {
    systemd = config.boot.initrd.systemd.enable;
    vsock = builtins.filter (name: builtins.match ".*vsock.*" name != null) config.boot.initrd.kernelModules;
  };
  loader = {
    inherit (config.boot.loader) timeout;
    systemd-boot = config.boot.loader.systemd-boot.enable;
    grub = config.boot.loader.grub.enable;
    variables = config.boot.loader.efi.canTouchEfiVariables;
  };
  fileSystems = builtins.mapAttrs (_: pick [ "device" "fsType" "autoResize" ]) (
    pick (builtins.filter (name: config.fileSystems ? ${name}) [ "/" "/boot" ]) config.fileSystems
  );
  inherit (config.boot) growPartition;
  inherit (config.networking) hostName useDHCP;
  network = pick [ "matchConfig" "networkConfig" "dhcpV4Config" ] config.systemd.network.networks."98-virshle";
  services = builtins.mapAttrs (_: service) (ours config.systemd.services);
  sockets = builtins.mapAttrs (_: socket) (ours config.systemd.sockets);
  generators = pick [ "systemd-ssh-generator" ] config.systemd.generators;
  warnings = builtins.filter (text: builtins.match ".*`v .*" text != null) config.warnings;
  sshd = {
    inherit (config.services.openssh) enable;
    keys = map (key: key.path) config.services.openssh.hostKeys;
    users = builtins.filter (
      file: builtins.match "/run/virshle/.*" file != null
    ) config.services.openssh.authorizedKeysFiles;
    passwords = config.services.openssh.settings.PasswordAuthentication;
  };
  autologin = config.services.getty.autologinUser;
  sudo = config.security.sudo.wheelNeedsPassword;
  user = if config.users.users ? alice then pick [ "isNormalUser" "extraGroups" ] config.users.users.alice else null;
  cloudInit =
    if config.services.cloud-init.enable then
      pick [ "datasource_list" "network" "preserve_hostname" "ssh_deletekeys" ] config.services.cloud-init.settings
    else
      null;
}
