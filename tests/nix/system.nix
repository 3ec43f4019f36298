# What is in the closure of a NixOS system as far as the image's maker looks at it. `init` is a static busybox's script.
{
  kernel,
  initrd,
  busybox,
  params ? "root=/dev/vda rw console=ttyS0",
}:
let
  make =
    name: env: script:
    derivation (
      env
      // {
        inherit name;
        system = builtins.currentSystem;
        builder = "/bin/sh";
        args = [
          "-ec"
          # To its end, so that the last command is not in the shell's place: Nix kills who closes its output first.
          "PATH=/bin:/usr/bin; ${script}\nexit"
        ];
      }
    );
  file = path: builtins.path { path = /. + path; };
  one = name: from: to: make name { inherit from; } ''mkdir "$out" && cp "$from" "$out/${to}"'';

  linux = one "linux-6.1" (file kernel) "bzImage";
  ramdisk = one "initrd-linux-6.1" (file initrd) "initrd";
  modules = make "linux-6.1-modules" { } ''mkdir -p "$out/lib/modules/6.1" && echo dep >"$out/lib/modules/6.1/modules.dep"'';
  shell = one "busybox" (file busybox) "busybox";
in
{
  toplevel = make "nixos-system-web" { inherit linux ramdisk modules shell params; } ''
    mkdir "$out"
    ln -s "$linux/bzImage" "$out/kernel"
    ln -s "$ramdisk/initrd" "$out/initrd"
    ln -s "$modules" "$out/kernel-modules"
    printf %s "$params" >"$out/kernel-params"
    echo text >"$out/a name with spaces"
    {
      echo "#!$shell/busybox sh"
      echo 'b() { '"$shell"'/busybox "$@"; }'
      echo 'echo "booted $(b readlink -f /nix/var/nix/profiles/system)"'
      echo 'echo "modules $(b ls /lib/modules)"'
      echo 'b sync; b poweroff -f'
    } >"$out/init"
    chmod 755 "$out/init"
  '';
  systemd = make "systemd" { } ''
    mkdir -p "$out/lib/systemd/boot/efi" && echo loader >"$out/lib/systemd/boot/efi/systemd-bootx64.efi"
  '';
}
