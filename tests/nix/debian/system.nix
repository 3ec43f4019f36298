# A NixOS system's toplevel in form: what the guest module declares as files, over Debian's.
{
  config,
  lib,
  packages,
}:
let
  inherit (packages) runCommand;
  linux = packages.linux config.boot.initrd.kernelModules;
  root = config.fileSystems."/";

  ini = lib.generators.toINI { listsAsDuplicateKeys = true; };
  put = path: text: "put ${lib.escapeShellArg path} ${lib.escapeShellArg text}\n";
  links = name: unit: map (target: "link ${target}.wants ${name}\n") unit.wantedBy;

  unit =
    value:
    lib.filterAttrs (_: setting: setting != [ ] && setting != "") {
      Description = value.description;
      After = toString value.after;
      Before = toString value.before;
      Wants = toString value.wants;
      Requires = toString value.requires;
    }
    // value.unitConfig;
  # Every service of NixOS's has these in its PATH, and no more than these (nixos/lib/systemd-lib.nix).
  common = with packages; [
    coreutils
    findutils
    gnugrep
    gnused
    systemd
  ];
  environment = value: value.environment // { PATH = lib.makeBinPath (value.path ++ common); };
  script = name: text: runCommand "unit-script-${name}" { inherit text; } ''
    printf '#!%s -e\n%s' ${packages.bash}/bin/bash "$text" >"$out"
    chmod 755 "$out"
  '';
  service =
    name: value:
    put "systemd/system/${name}.service" (ini {
      Unit = unit value;
      Service =
        value.serviceConfig
        // {
          Environment = lib.mapAttrsToList (key: setting: ''"${key}=${setting}"'') (environment value);
        }
        // lib.optionalAttrs (value.script != "") { ExecStart = script name value.script; };
    });
  socket =
    name: value:
    put "systemd/system/${name}.socket" (ini {
      Unit = unit value;
      Socket = value.socketConfig // { ListenStream = value.listenStreams; };
    });
  network =
    name: value:
    put "systemd/network/${name}.network" (ini {
      Match = value.matchConfig;
      Network = value.networkConfig;
      DHCPv4 = value.dhcpV4Config;
    });
  fileSystem =
    at: value:
    let
      options = value.options ++ lib.optional value.autoResize "x-systemd.growfs";
    in
    "${value.device} ${at} ${value.fsType} ${lib.concatStringsSep "," options} 0 0\n";
  each = make: set: lib.concatStrings (lib.mapAttrsToList make set);

  inherit (config.services) openssh getty;
  sshd = ''
    UsePAM yes
    PasswordAuthentication ${lib.boolToYesNo openssh.settings.PasswordAuthentication}
    AuthorizedKeysFile ${toString openssh.authorizedKeysFiles}
    ${lib.concatMapStringsSep "\n" (key: "HostKey ${key.path}") openssh.hostKeys}
  '';
  # Debian's own line, with who logs in.
  autologin = ''
    [Service]
    ExecStart=
    ExecStart=-/sbin/agetty --autologin ${getty.autologinUser} --noreset --noclear --keep-baud 115200,9600 - ''${TERM}
  '';

  etc = runCommand "etc" { } ''
    put() { mkdir -p "$(dirname "$out/$1")" && printf %s "$2" >"$out/$1"; }
    link() { mkdir -p "$out/systemd/system/$1" && ln -s "$(unit "$2")" "$out/systemd/system/$1/"; }
    unit() { if [ -e "$out/systemd/system/$1" ]; then echo "../$1"; else echo "/usr/lib/systemd/system/$1"; fi; }
    ${each service config.systemd.services}
    ${each socket config.systemd.sockets}
    ${each network config.systemd.network.networks}
    ${each (name: unit: lib.concatStrings (links "${name}.service" unit)) config.systemd.services}
    ${each (name: unit: lib.concatStrings (links "${name}.socket" unit)) config.systemd.sockets}
    ${lib.optionalString config.networking.useNetworkd "link multi-user.target.wants systemd-networkd.service"}
    mkdir "$out/systemd/system-generators"
    ${each (name: target: "ln -s ${target} $out/systemd/system-generators/${name}\n") config.systemd.generators}
    ${put "fstab" (each fileSystem config.fileSystems)}
    ${put "ssh/sshd_config" sshd}
    ${put "systemd/system/serial-getty@.service.d/autologin.conf" autologin}
    # Of Debian's units only those that others pull in, as on NixOS; and none that asks whoever sits at the console, or
    # takes a second where the processor is emulated and is not what is tested.
    ${put "systemd/system-preset/00-none.preset" "disable *\n"}
    for unit in dev-{hugepages,mqueue}.mount kmod-static-nodes.service ldconfig.service modprobe@drm.service \
      proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount sys-kernel-{config,debug,tracing}.mount \
      systemd-{binfmt,firstboot,networkd-persistent-storage,random-seed,sysctl,udev-load-credentials}.service \
      systemd-tmpfiles-setup-dev{,-early}.service systemd-{hostnamed,sysext}.socket; do
      ln -s /dev/null "$out/systemd/system/$unit"
    done
    for generator in ${packages.debian}/usr/lib/systemd/system-generators/*; do
      case $generator in
      *-fstab-* | *-getty-* | *-ssh-*) ;;
      *) ln -s /dev/null "$out/systemd/system-generators/''${generator##*/}" ;;
      esac
    done
    ln -s /usr/lib/systemd/system/multi-user.target "$out/systemd/system/default.target"
    mkdir "$out/pam.d"
    for kind in account auth password session session-noninteractive; do
      echo "''${kind%%-*} required pam_unix.so" >"$out/pam.d/common-$kind"
    done
  '';

  # Tiny's, which mounts what the host's parameters name and goes on with their init.
  initrd = runCommand "initrd" { inherit linux; inherit (packages) busybox; } ''
    mkdir -p tree/bin tree/dev tree/proc tree/sys tree/root tree/lib
    cp "$busybox/bin/busybox" tree/bin/
    for applet in $(tree/bin/busybox --list); do [ "$applet" = busybox ] || ln -s busybox "tree/bin/$applet"; done
    cp -r "$linux/lib/modules" tree/lib/
    cp ${../../../virshle/image/tiny/guest/initrd-init} tree/init
    chmod 755 tree/init
    echo virtio_pci virtio_blk ext4 crc32c_generic ${toString config.boot.initrd.kernelModules} >tree/modules
    mkdir "$out"
    TMPDIR=$PWD sh ${../../../virshle/image/tiny/newc.sh} tree | gzip -1 >"$out/initrd"
  '';
in
runCommand "nixos-system-debian"
  {
    inherit etc linux initrd;
    params = toString ([ "root=LABEL=${baseNameOf root.device}" ] ++ config.boot.kernelParams);
  }
  ''
    mkdir "$out"
    ln -s "$linux/bzImage" "$out/kernel"
    ln -s "$initrd/initrd" "$out/initrd"
    ln -s "$linux" "$out/kernel-modules"
    ln -s "$etc" "$out/etc"
    printf %s "$params" >"$out/kernel-params"
    sed "s,@busybox@,${packages.busybox},; s,@debian@,${packages.debian},; s,@system@,$out,; s,@root@,${root.device}," \
      ${./init.sh} >"$out/init"
    chmod 755 "$out/init"
  ''
