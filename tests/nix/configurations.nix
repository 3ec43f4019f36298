# The guests whose evaluation is compared with tests/nix/golden: modules that are added to nixosModules.guest.
{
  kernel = [ { system.stateVersion = "26.05"; } ];

  efi = [
    {
      system.stateVersion = "26.05";
      virshle.guest.boot = "efi";
      virshle.guest.espSize = 512;
    }
  ];

  # All that a user may want otherwise.
  own = [
    {
      system.stateVersion = "26.05";
      networking.hostName = "web";
      services.getty.autologinUser = null;
      boot.loader.timeout = 3;
      virshle.guest = {
        user = "alice";
        cloudInit = true;
      };
    }
  ];
}
