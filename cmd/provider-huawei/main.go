// Command dso-provider-huawei is a provider program for DSO: it reads the secrets of
// Huawei Cloud's Cloud Secret Management Service. docs/reference/providers.md explains it.
//
// It is a module of its own because Huawei's SDK is larger than the agent.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/docker-secret-operator/dso/internal/provider/program"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/stdlog"
)

func main() {
	stdlog.Silence()
	if err := run(os.Args[1:], os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "dso-provider-huawei:", err)
		os.Exit(1)
	}
}

func run(args []string, getenv func(string) string) error {
	var c config
	flags := flag.NewFlagSet("dso-provider-huawei", flag.ContinueOnError)
	flags.StringVar(&c.project, "project", "", "id of the project")
	region := flags.String("region", "", "region, such as eu-west-101")
	flags.StringVar(&c.endpoint, "endpoint", "", "https://host, when it is not that of the region")
	caFile := flags.String("ca-file", "", "PEM certificates to trust instead of the system's")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if c.endpoint == "" && *region != "" {
		c.endpoint = "https://csms." + *region + ".myhuaweicloud.com"
	}
	if c.project == "" || c.endpoint == "" {
		return fmt.Errorf("give -project, and -region or -endpoint")
	}
	c.key, c.secret, c.token = getenv("HUAWEICLOUD_SDK_AK"), getenv("HUAWEICLOUD_SDK_SK"), getenv("HUAWEICLOUD_SDK_SECURITY_TOKEN")
	if c.key == "" || c.secret == "" {
		return fmt.Errorf("HUAWEICLOUD_SDK_AK or HUAWEICLOUD_SDK_SK is not set")
	}
	s, err := newStore(c, rest.TLS{CAFile: *caFile})
	if err != nil {
		return err
	}
	return program.Serve(context.Background(), s, os.Stdin, os.Stdout)
}
