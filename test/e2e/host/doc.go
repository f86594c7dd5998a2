// Package host tests DSO on a Debian host with systemd and a real engine, which is
// installed, booted in every order, upgraded and uninstalled for it.
package host
