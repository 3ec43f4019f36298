# DHCP on every NIC. Their names follow from the PCI slot, so neither this nor anything else relies on one.
{ lib, ... }:
let
  inherit (import ./priority.nix lib) prefer;
in
{
  networking = {
    # Empty: the VM's name on the host is its name, see seed.nix.
    hostName = prefer "";
    useNetworkd = prefer true;
    useDHCP = prefer false;
  };
  systemd.network = {
    # Late, so that any network of your own comes first; before that of `networking.useDHCP = true`, which is named
    # 99-ethernet-default-dhcp and knows nothing of clones (nixos/modules/tasks/network-interfaces-systemd.nix).
    networks."98-virshle" = {
      matchConfig = {
        Type = "ether";
        # Real NICs only: bridges, veths and the like have a kind.
        Kind = "!*";
      };
      networkConfig.DHCP = "yes";
      dhcpV4Config = {
        # A clone would else begin with its template's lease.
        ClientIdentifier = "mac";
        UseHostname = false;
      };
    };
    # A VM without a net would wait for one. ready.nix waits, for a while.
    wait-online.enable = prefer false;
  };
}
