# DHCP on every NIC. Their names follow from the PCI slot, so neither this nor anything else relies on one.
{ config, lib, ... }:
let
  inherit (lib) mkDefault;
in
{
  networking = {
    # Empty: the VM's name on the host is its name, see seed.nix.
    hostName = mkDefault "";
    useNetworkd = mkDefault true;
    useDHCP = mkDefault false;
  };
  systemd.network = {
    # The last of all, so that any network of your own comes first.
    networks."99-virshle" = {
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
    wait-online.enable = mkDefault false;
  };
}
