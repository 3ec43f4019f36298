# A NixOS host on which `v` makes a VM from the flake's own image, runs it, logs in to it and ends it. The host is a VM
# too. So the inner VM runs with KVM if nested KVM works, else by software emulation.
{
  pkgs,
  v,
  image,
}:
pkgs.testers.runNixOSTest {
  name = "virshle-host";
  nodes.host =
    { lib, ... }:
    {
      virtualisation = {
        cores = 2;
        memorySize = 3072;
        diskSize = 8192;
        writableStore = true;
      };
      environment.systemPackages = [ v ];
      # The host has no network, so its build only copies the image that it already has.
      nix.settings = {
        sandbox = false;
        substituters = lib.mkForce [ ];
      };
      environment.etc."virshle/config.toml".text = ''
        [[image]]
        name = "web"
        file = "${pkgs.writeText "image.nix" ''
          derivation {
            name = "web";
            system = "${pkgs.stdenv.hostPlatform.system}";
            builder = "${pkgs.runtimeShell}";
            args = [ "-c" "${pkgs.coreutils}/bin/cp -r ${image} $out" ];
          }
        ''}"

        [[template.vm]]
        name = "web"
        vram = "768MiB"
        [[template.vm.disk]]
        name = "os"
        image = "web"
        size = "6GiB"
        [[template.vm.net]]
        name = "main"
        type = "user"
      '';
    };
  testScript = ''
    host.wait_for_unit("multi-user.target")
    host.succeed("v create -t web web --start --wait --timeout 1200")
    host.succeed("systemctl is-active virshle-vm-web")
    assert host.succeed("v ssh web hostname").strip() == "web"
    host.succeed("v ssh web systemctl is-system-running --wait")
    host.succeed("v stop web --timeout 300")
    host.succeed("v delete web")
    assert host.succeed("v ls -q").strip() == ""
  '';
}
