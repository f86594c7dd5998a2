package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/docker-secret-operator/dso/test/lab"
)

// client is one that sends requests all the time.
type client struct {
	name string
	load *lab.Load
}

func (b *bench) startClients(ctx context.Context) error {
	if err := b.startNginx(ctx); err != nil {
		return err
	}
	if _, err := b.lab.Docker(ctx, "network", "create", "elsewhere"); err != nil {
		return err
	}
	var (
		there  = b.lab.Address()
		there6 = "[" + b.lab.Address6() + "]"
		inside = b.lab.InContainer("load:test", "shop_default")
		self   = "http://" + there + ":8080/self?url=" + url.QueryEscape("http://web:8080/")
	)
	for _, c := range []struct {
		name  string
		place lab.Place
		url   string
		args  []string
	}{
		{"another host, a connection per request", b.lab.OtherHost, "http://" + there + ":8080/", nil},
		{"another host, connections kept", b.lab.OtherHost, "http://" + there + ":8080/", []string{"-keepalive"}},
		{"another host, IPv6", b.lab.OtherHost, "http://" + there6 + ":8080/", nil},
		{"another host, UDP from one port", b.lab.OtherHost, "udp://" + there + ":8080", []string{"-keepalive"}},
		{"the host's own address", b.lab.OnHost, "http://" + there + ":8080/", nil},
		{"127.0.0.1", b.lab.OnHost, "http://127.0.0.1:8080/", nil},
		{"[::1]", b.lab.OnHost, "http://[::1]:8080/", nil},
		{"in the network, by name each time", inside, "http://web:8080/", nil},
		{"in the network, name resolved once", inside, "http://web:8080/", []string{"-resolve-once"}},
		{"in the network, once, connections kept", inside, "http://web:8080/", []string{"-resolve-once", "-keepalive"}},
		{"in the network, UDP from one port", inside, "udp://web:8080", []string{"-keepalive"}},
		{"from another network", b.lab.InContainer("load:test", "elsewhere"), "http://" + there + ":8080/", nil},
		{"the service to itself, by name", b.lab.OtherHost, self, nil},
		{"nginx, whose upstream was resolved once", b.lab.OtherHost, "http://" + there + ":8081/", nil},
	} {
		args := append([]string{"-rate", fmt.Sprint(b.rate), "-timeout", "5s"}, c.args...)
		l, err := b.lab.StartLoadAt(ctx, c.place, c.url, args...)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		b.clients = append(b.clients, &client{c.name, l})
	}
	return nil
}

// nginxConf has an upstream by name: nginx looks it up when it starts, and never
// again.
const nginxConf = `
daemon off;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  upstream web { server web:8080; keepalive 4; }
  server {
    listen 80;
    location / {
      proxy_pass http://web;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }
  }
}
`

// startNginx runs the machine's nginx in the network of a container beside the
// service, with the names of that network.
func (b *bench) startNginx(ctx context.Context) error {
	if err := b.lab.ImportBusybox(ctx, "busybox:test"); err != nil {
		return err
	}
	if _, err := b.lab.Docker(ctx, "run", "-d", "--name", "proxy", "--network", "shop_default", "-p", "8081:80", "busybox:test", "sleep", "100000"); err != nil {
		return err
	}
	pid, err := b.lab.Docker(ctx, "inspect", "-f", "{{.State.Pid}}", "proxy")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.lab.Dir, "nginx-")
	if err != nil {
		return err
	}
	conf, names := filepath.Join(dir, "nginx.conf"), filepath.Join(dir, "resolv.conf")
	err = errors.Join(os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir), 0o644), os.WriteFile(names, []byte("nameserver 127.0.0.11\n"), 0o644), os.Chmod(dir, 0o755))
	if err != nil {
		return err
	}
	script := `mount --bind "$1" /etc/resolv.conf && exec nginx -p "$2" -c "$3"`
	cmd := b.lab.Command(ctx, "nsenter", "--net=/proc/"+pid+"/ns/net", "unshare", "--mount", "sh", "-c", script, "sh", names, dir, conf)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	// Told to end, its first process ends the others.
	b.cleanup = append(b.cleanup, func() { _, _ = cmd.Process.Signal(syscall.SIGTERM), <-ended })
	for deadline := time.After(30 * time.Second); ; {
		if b.lab.ClientCommand(ctx, "answerer", "get", "http://"+b.lab.Address()+":8081/").Run() == nil {
			return nil
		}
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("nginx ended: %w: %s", err, said.String())
		case <-deadline:
			return errors.New("nginx does not answer")
		case <-time.After(50 * time.Millisecond):
		}
	}
}
