# Makes the `tiny` guest image: disk.raw (ext4), kernel, initrd and cmdline. The parts are arguments.
#
# A part is a store path or a derivation. The packages of nixpkgs fit:
#   import ./tiny.nix {
#     system = "x86_64-linux";
#     kernel = "${pkgs.linux}/bzImage";
#     modules = pkgs.linux.modules or pkgs.linux;
#     inherit (pkgs.pkgsStatic) busybox dropbear socat e2fsprogs;
#   }
# Programs that are linked with libraries need the libraries in the guest too: `closure` names packages whose closure is
# copied into the guest's own /nix/store; `libs` is a tree (lib, lib64) that is copied over the guest's root.
{ system ? builtins.currentSystem
, kernel # the kernel image, a file
, modules # has lib/modules/VERSION
, busybox # has bin/busybox, static
, dropbear # has bin/dropbear and bin/dropbearkey
, socat # has bin/socat
, e2fsprogs # has bin/resize2fs
, libs ? null
, closure ? [ ]
  # The programs that run during the build: the guest's own, unless they are for another architecture.
, buildSystem ? system
, buildBusybox ? busybox
, mke2fs ? "${e2fsprogs}/bin/mke2fs"
, debugfs ? "${e2fsprogs}/bin/debugfs"
, name ? "tiny"
, label ? "tiny"
  # Fixed, so that each build gives the same bytes. All clones of an image have the same one anyway.
, uuid ? "74696e79-0000-4000-8000-766972736865"
}:
let
  arm = builtins.match "aarch64.*" system != null;
  serial = if arm then "ttyAMA0" else "ttyS0";
  timer = if arm then "" else "no_timer_check ";
in
derivation ({
  inherit name kernel modules busybox dropbear socat e2fsprogs libs mke2fs debugfs label uuid;
  system = buildSystem;
  # No cache has this, and without a network the question takes minutes.
  allowSubstitutes = false;
  preferLocalBuild = true;
  builder = "${buildBusybox}/bin/busybox";
  args = [ "sh" "-eu" ./build.sh ];
  guest = ./guest;
  moduleList = ./modules.list;
  makeExt4 = ./mkext4.sh;
  makeCpio = ./newc.sh;
  # The last console= is /dev/console. A console that the machine does not have does no harm.
  # notests: the kernel's self-test of its ciphers is the longest single step of a boot, half a second when emulated.
  # no_timer_check (x86 only): the kernel panics if its timer is late at that check. On a busy machine, an emulator must
  # wait for the processor, and the timer is late.
  cmdline = "root=/dev/vda rw quiet cryptomgr.notests ${timer}console=hvc0 console=${serial}";
} // (if closure == [ ] then { } else {
  # Nix writes the closure of each package as a text file into the build folder.
  exportReferencesGraph =
    builtins.concatLists (builtins.genList
      (i: [ "closure-${toString i}" (builtins.elemAt closure i) ])
      (builtins.length closure));
}))
