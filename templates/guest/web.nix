# Any NixOS configuration. Disk, kernel, network, ssh and keys are the guest module's; its own options are
# virshle.guest.*.
{
  system.stateVersion = "26.05";

  services.nginx = {
    enable = true;
    virtualHosts.default.root = ./site;
  };
  networking.firewall.allowedTCPPorts = [ 80 ];
}
