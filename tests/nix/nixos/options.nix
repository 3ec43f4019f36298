{ lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  bool = option types.bool;
  names = option (types.listOf types.str) [ ];
  # nixos/lib/systemd-unit-options.nix: lists are joined, all else must be equal.
  setting = lib.mkOptionType {
    name = "systemd option";
    merge =
      loc: defs:
      if lib.all (def: lib.isList def.value) defs then
        lib.concatMap (def: def.value) defs
      else
        lib.mergeEqualOption loc defs;
  };
  settings = option (types.attrsOf setting) { };

  unit = {
    description = option types.singleLineStr "";
    after = names;
    before = names;
    wants = names;
    requires = names;
    wantedBy = names;
    unitConfig = settings;
  };
  service = unit // {
    environment = option (types.attrsOf (types.nullOr (types.oneOf [ types.str types.path types.package ]))) { };
    path = option (types.listOf (types.oneOf [ types.package types.str ])) [ ];
    script = option types.lines "";
    serviceConfig = settings;
    restartIfChanged = bool true;
  };
  socket = unit // {
    listenStreams = names;
    socketConfig = settings;
  };
  network = {
    matchConfig = settings;
    networkConfig = settings;
    dhcpV4Config = settings;
  };
  fileSystem = {
    device = option (types.nullOr types.nonEmptyStr) null;
    fsType = option types.nonEmptyStr "auto";
    options = option (types.nonEmptyListOf types.nonEmptyStr) [ "defaults" ];
    autoResize = bool false;
  };
  user = {
    isNormalUser = bool false;
    extraGroups = names;
  };
  all = options: option (types.attrsOf (types.submodule { inherit options; })) { };
in
{
  options = {
    boot = {
      enableContainers = bool true;
      growPartition = bool false;
      initrd.kernelModules = names;
      initrd.systemd.enable = bool false;
      kernelParams = option (types.listOf (types.strMatching ''([^"[:space:]]|"[^"]*")+'')) [ ];
      loader = {
        timeout = option (types.nullOr types.int) 5;
        grub.enable = bool true;
        efi.canTouchEfiVariables = bool false;
        systemd-boot.enable = bool false;
        systemd-boot.configurationLimit = option (types.nullOr types.int) null;
      };
    };
    fileSystems = all fileSystem;
    fonts.fontconfig.enable = bool true;
    networking = {
      hostName = option (types.strMatching "^$|^[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?$") "nixos";
      useDHCP = bool true;
      useNetworkd = bool false;
    };
    nix.channel.enable = bool true;
    nix.settings = option (types.attrsOf types.anything) { };
    security.sudo.wheelNeedsPassword = bool true;
    services = {
      cloud-init.enable = bool false;
      cloud-init.settings = option (types.submodule { freeformType = types.attrsOf types.anything; }) { };
      getty.autologinUser = option (types.nullOr types.str) null;
      openssh = {
        enable = bool false;
        authorizedKeysFiles = names;
        hostKeys = option (types.listOf types.attrs) [ ];
        package = option types.package pkgs.openssh;
        settings.PasswordAuthentication = option (types.nullOr types.bool) true;
      };
    };
    system = {
      build = option (types.submodule {
        freeformType = types.lazyAttrsOf types.unspecified;
        options.installBootLoader = option (types.either types.str types.package) "false";
      }) { };
      name = option types.str "unnamed";
      stateVersion = option types.str "26.05";
    };
    systemd = {
      generators = option (types.attrsOf types.path) { };
      network.networks = all network;
      network.wait-online.enable = bool true;
      package = option types.package pkgs.systemd;
      services = all service;
      sockets = all socket;
    };
    users.allowNoPasswordLogin = bool false;
    users.users = all user;
  };

  config.system.build.toplevel = {
    type = "derivation";
    name = "nixos-system";
    outPath = "/nix/store/00000000000000000000000000000000-nixos-system";
  };
}
