# Any NixOS configuration. The guest module sets disk, kernel, network, ssh and keys; its own options are
# virshle.guest.*.
{
  system.stateVersion = "26.05";

  services.nginx = {
    enable = true;
    virtualHosts.default.root = ./site;
  };
  networking.firewall.allowedTCPPorts = [ 80 ];
}
