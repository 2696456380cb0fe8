// Prometheusoperator reads manifests (JSON, one after the other) on standard input into the Prometheus operator's own types,
// and refuses a field that they do not have.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

func main() {
	log.SetFlags(0)
	objects := json.NewDecoder(os.Stdin)
	for count := 0; ; count++ {
		var raw json.RawMessage
		if err := objects.Decode(&raw); errors.Is(err, io.EOF) {
			fmt.Println(count)
			return
		} else if err != nil {
			log.Fatal(err)
		}
		if err := strictly(raw); err != nil {
			log.Fatalf("%s\n%v", raw, err)
		}
	}
}

func strictly(raw json.RawMessage) error {
	var kind struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return err
	}
	into := map[string]any{
		"ServiceMonitor": &monitoring.ServiceMonitor{},
		"PodMonitor":     &monitoring.PodMonitor{},
		"PrometheusRule": &monitoring.PrometheusRule{},
	}[kind.Kind]
	if into == nil || kind.APIVersion != monitoring.SchemeGroupVersion.String() {
		return fmt.Errorf("not known: %s %s", kind.APIVersion, kind.Kind)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}
