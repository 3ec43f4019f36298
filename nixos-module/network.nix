# DHCP on every NIC. The name of a NIC depends on its PCI slot, so nothing here uses a name.
{ lib, ... }:
let
  inherit (import ./priority.nix lib) prefer;
in
{
  networking = {
    # Empty: the machine gets the VM's name on the host, see seed.nix.
    hostName = prefer "";
    useNetworkd = prefer true;
    useDHCP = prefer false;
  };
  systemd.network = {
    # A late name, so that your own networks come first. It comes before 99-ethernet-default-dhcp, the network of
    # `networking.useDHCP = true`, which is not made for clones (nixos/modules/tasks/network-interfaces-systemd.nix).
    networks."98-virshle" = {
      matchConfig = {
        Type = "ether";
        # Only real NICs: bridges, veths and the like have a kind.
        Kind = "!*";
      };
      networkConfig.DHCP = "yes";
      dhcpV4Config = {
        # Otherwise a clone would begin with the lease of its original.
        ClientIdentifier = "mac";
        UseHostname = false;
      };
    };
    # A VM without a net would wait for a network. ready.nix waits instead, for a limited time.
    wait-online.enable = prefer false;
  };
}
