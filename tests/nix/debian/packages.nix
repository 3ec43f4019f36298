# As much of nixpkgs as a guest is made of. Packages are folders of links into `debian`, which has all their files.
{
  lib,
  path,
  debs,
}:
let
  system = builtins.currentSystem;
  runCommand =
    name: env: script:
    derivation (
      # The programs of this machine do.
      removeAttrs env [ "nativeBuildInputs" ]
      // {
        inherit name system script path;
        builder = "/bin/bash";
        args = [
          "-euc"
          ''
            if [ -e .attrs.sh ]; then
              . ./.attrs.sh
              export out="''${outputs[out]}"
            fi
            export PATH=$path LC_ALL=C
            umask 022
            eval "$script"
            exit
          ''
        ];
        preferLocalBuild = true;
        allowSubstitutes = false;
      }
    );

  fetched = map (
    deb:
    deb
    // {
      file = import <nix/fetchurl.nix> {
        inherit (deb) url sha256;
        # Neither is allowed in the name of a store path.
        name = builtins.replaceStrings [ "%" "~" ] [ "_" "_" ] (baseNameOf deb.url);
      };
    }
  ) debs;
  isKernel = deb: lib.hasPrefix "linux-" deb.name;
  named = names: map (deb: deb.file) (builtins.filter (deb: builtins.elem deb.name names) fetched);

  debian = runCommand "debian" { debs = map (deb: deb.file) (builtins.filter (deb: !isKernel deb) fetched); } ''
    mkdir "$out"
    # Nix allows no setuid bits.
    for deb in $debs; do dpkg-deb --fsys-tarfile "$deb" | tar -x --no-same-permissions --no-same-owner -C "$out"; done
    cd "$out"
    chmod -R u+w .
    # What no program here reads, and what only a shell run by hand would.
    rm -rf usr/share/{doc,info,lintian,locale,man,perl*} usr/lib/udev/hwdb.d usr/lib/*-linux-gnu/perl-base var
  '';

  # Under the name of nixpkgs, what these Debian packages bring for PATH; and its lib, which is all of Debian's.
  package =
    name: names:
    runCommand name { debs = named names; } ''
      mkdir -p "$out/bin"
      for deb in $debs; do
        dpkg-deb --fsys-tarfile "$deb" | tar -t | sed -n 's,^\./\(usr/s\?bin/[^/]\+\)$,\1,p' | while read -r file; do
          ln -s "${debian}/$file" "$out/bin/"
        done
      done
      ln -s ${debian}/usr/lib "$out/lib"
    '';

  # bzImage, and of its modules those of tiny's list and `wanted`.
  linux =
    wanted:
    runCommand "linux"
      {
        debs = map (deb: deb.file) (builtins.filter isKernel fetched);
        inherit busybox debian wanted;
        list = ../../../virshle/image/tiny/modules.list;
      }
      (builtins.readFile ./linux.sh);

  busybox = runCommand "busybox" { debs = named [ "busybox-static" ]; } ''
    mkdir -p "$out/bin"
    for deb in $debs; do dpkg-deb -x "$deb" .; done
    cp usr/bin/busybox "$out/bin/"
  '';
  # What nixpkgs has too.
  nixpkgs = {
    inherit runCommand;

    # nixpkgs asks jq for the same of the same file.
    closureInfo =
      { rootPaths }:
      runCommand "closure-info"
        {
          __structuredAttrs = true;
          exportReferencesGraph.closure = rootPaths;
          python = ''
            import json, sys
            closure = json.load(open(".attrs.json"))["closure"]
            paths, registration = (open(f"{sys.argv[1]}/{name}", "w") for name in ("store-paths", "registration"))
            for member in closure:
                path, refs = member["path"], member["references"]
                print(path, file=paths)
                print(path, member["narHash"], member["narSize"], "", len(refs), *refs, sep="\n", file=registration)
          '';
        }
        ''
          mkdir "$out"
          python3 -I -c "$python" "$out"
        '';

    coreutils = package "coreutils" [ "coreutils" ];
    findutils = package "findutils" [ "findutils" ];
    # Debian gives it this name when it is installed.
    gawk = runCommand "gawk" { } ''
      mkdir -p "$out/bin"
      ln -s ${debian}/usr/bin/mawk "$out/bin/awk"
    '';
    gnugrep = package "gnugrep" [ "grep" ];
    gnused = package "gnused" [ "sed" ];
    cloud-utils.guest = package "cloud-utils" [ "cloud-guest-utils" ];
    mtools = package "mtools" [ "mtools" ];
    openssh = package "openssh" [ "openssh-client" "openssh-server" ];
    socat = package "socat" [ "socat" ];
    systemd = package "systemd" [ "systemd" "systemd-sysv" "udev" ];
    util-linux = package "util-linux" [ "fdisk" "mount" "util-linux" ];
  };
in
nixpkgs
// {
  inherit
    busybox
    debian
    linux
    nixpkgs
    ;
  bash = package "bash" [ "bash" ];
}
