// Command noderoutes keeps one route per other node, to that node's pods by that node's address, and one rule that
// masquerades what pods send to anything but pods; then it writes the configuration of the bridge plug-in.
//
// The plug-in connects the pods of one node; routes are all that is missing for a cluster on one network. They vanish
// when a node's container restarts, hence a DaemonSet instead of routes set once. NetworkPolicy is not enforced.
//
// The configuration is what makes the kubelet report the node as Ready. It is written after the first answer of the API
// server through its Service address, so no pod ever runs on a node on which Services do not work yet: CoreDNS would
// back off for half a minute.
//
// It asks the API server by plain HTTP (list, then a watch of which any event means "list again") instead of through
// client-go: a tenth of the memory, on every node.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

type nodeList struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Items []struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Spec struct {
			PodCIDR string `json:"podCIDR"`
		} `json:"spec"`
		Status struct {
			Addresses []struct {
				Type    string `json:"type"`
				Address string `json:"address"`
			} `json:"addresses"`
		} `json:"status"`
	} `json:"items"`
}

// routes returns pod network -> gateway for every node but the one of that name.
func (list nodeList) routes(self string) map[string]string {
	wanted := map[string]string{}
	for _, node := range list.Items {
		if node.Metadata.Name == self || node.Spec.PodCIDR == "" {
			continue
		}
		for _, address := range node.Status.Addresses {
			if address.Type == "InternalIP" {
				wanted[node.Spec.PodCIDR] = address.Address
				break
			}
		}
	}
	return wanted
}

// podCIDR returns the pod network of the node of that name, or "" while it has none.
func (list nodeList) podCIDR(self string) string {
	for _, node := range list.Items {
		if node.Metadata.Name == self {
			return node.Spec.PodCIDR
		}
	}
	return ""
}

// configure writes the network configuration of this node's pods (CNI specification 0.4.0, configuration list).
func configure(dir, cidr string) error {
	document, err := json.MarshalIndent(map[string]any{
		"cniVersion": "0.4.0",
		"name":       "pods",
		"plugins": []any{
			map[string]any{
				"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true,
				"ipam": map[string]any{"type": "host-local", "ranges": [][]any{{map[string]string{"subnet": cidr}}}},
			},
			map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "10-pods.conflist")
	if known, err := os.ReadFile(path); err == nil && string(known) == string(document) {
		return nil
	}
	// containerd reads the directory whenever it changes: it must never see half a file.
	if err := os.WriteFile(path+".partial", document, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".partial", path)
}

// set makes the kernel's routes those that are wanted. Replacing a route with itself changes nothing.
func set(wanted map[string]string) error {
	var failed error
	for cidr, gateway := range wanted {
		_, network, err := net.ParseCIDR(cidr)
		if err == nil {
			err = netlink.RouteReplace(&netlink.Route{Dst: network, Gw: net.ParseIP(gateway)})
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("route to %s by %s: %w", cidr, gateway, err))
		}
	}
	return failed
}

// masquerade lets pods reach what is outside the cluster, and is idempotent. Pods see each other's own addresses.
func masquerade(pods string) error {
	rule := []string{"POSTROUTING", "-s", pods, "!", "-d", pods, "-m", "addrtype", "!", "--dst-type", "LOCAL", "-j", "MASQUERADE"}
	if exec.Command("iptables", append([]string{"-w", "10", "-t", "nat", "-C"}, rule...)...).Run() == nil {
		return nil
	}
	out, err := exec.Command("iptables", append([]string{"-w", "10", "-t", "nat", "-A"}, rule...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("iptables: %w: %s", err, out)
	}
	return nil
}

// api gets a path of the API server as the pod's service account; the token is read anew, for it is rotated.
func api(ctx context.Context, client *http.Client, path string) (io.ReadCloser, error) {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return nil, err
	}
	host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("%s: %s", path, response.Status)
	}
	return response.Body, nil
}

// round lists the nodes, sets the routes, and returns when a node has changed or half a minute is over.
func round(client *http.Client, self, pods, cni string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	body, err := api(ctx, client, "/api/v1/nodes")
	if err != nil {
		return err
	}
	defer body.Close()
	var list nodeList
	if err := json.NewDecoder(body).Decode(&list); err != nil {
		return err
	}
	if err := errors.Join(set(list.routes(self)), masquerade(pods)); err != nil {
		return err
	}
	if cidr := list.podCIDR(self); cidr != "" {
		if err := configure(cni, cidr); err != nil {
			return err
		}
	}
	events, err := api(ctx, client, "/api/v1/nodes?watch=1&timeoutSeconds=30&resourceVersion="+list.Metadata.ResourceVersion)
	if err != nil {
		return err
	}
	defer events.Close()
	_, err = bufio.NewReader(events).ReadByte()
	if errors.Is(err, io.EOF) {
		return nil // half a minute without a change
	}
	return err
}

func main() {
	pods := flag.String("pod-subnet", "", "the network of all pods of the cluster")
	cni := flag.String("cni-dir", "/etc/cni/net.d", "where the container runtime looks for network configurations")
	flag.Parse()
	self := os.Getenv("NODE_NAME")
	authority, err := os.ReadFile(account + "ca.crt")
	if err != nil || self == "" || *pods == "" {
		log.Fatalf("needs --pod-subnet, NODE_NAME and a service account: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	// No connection is kept: one that was made before the Service's rules were there leads elsewhere.
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	client := &http.Client{Transport: transport}
	for {
		if err := round(client, self, *pods, *cni); err != nil {
			log.Print(err)
		}
		time.Sleep(300 * time.Millisecond) // many events in a row (a node that joins) become few rounds
	}
}
