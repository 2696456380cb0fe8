// Opencost reads an allocation endpoint as OpenCost's own clients do (kubectl-cost, for one): it asks the URL that is its
// argument, decodes the answer into OpenCost's types, and adds up with OpenCost's arithmetic. It prints one line of JSON.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/opencost/opencost/core/pkg/opencost"
)

// answer is the envelope of every OpenCost API.
type answer struct {
	Code int                               `json:"code"`
	Data []map[string]*opencost.Allocation `json:"data"`
}

// said is what the endpoint itself says of an allocation and OpenCost works out anew.
type said struct {
	Data []map[string]struct {
		TotalCost float64 `json:"totalCost"`
		Minutes   float64 `json:"minutes"`
	} `json:"data"`
}

// row is what OpenCost makes of one allocation, over all sets.
type row struct {
	Name      string  `json:"name"`
	Namespace string  `json:"namespace"`
	CPUHours  float64 `json:"cpuCoreHours"`
	CPUCores  float64 `json:"cpuCores"`
	RAMBytes  float64 `json:"ramBytes"`
	Shared    float64 `json:"sharedCost"`
	External  float64 `json:"externalCost"`
	Total     float64 `json:"totalCost"`
	Minutes   float64 `json:"minutes"`
	// As the endpoint says, added up.
	SaidTotal   float64 `json:"saidTotalCost"`
	SaidMinutes float64 `json:"saidMinutes"`
}

func main() {
	log.SetFlags(0)
	client := http.Client{Timeout: 30 * time.Second}
	got, err := client.Get(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		log.Fatal(err)
	}
	var read answer
	if err := json.Unmarshal(body, &read); err != nil {
		log.Fatal(err)
	}
	var told said
	if err := json.Unmarshal(body, &told); err != nil {
		log.Fatal(err)
	}
	totals, minutes := map[string]float64{}, map[string]float64{}
	for _, named := range told.Data {
		for name, each := range named {
			totals[name] += each.TotalCost
			minutes[name] += each.Minutes
		}
	}
	if got.StatusCode != http.StatusOK || read.Code != http.StatusOK {
		log.Fatalf("%s: %d", got.Status, read.Code)
	}
	sets := make([]*opencost.AllocationSet, 0, len(read.Data))
	for _, named := range read.Data {
		var set *opencost.AllocationSet
		for name, each := range named {
			if name != each.Name {
				log.Fatalf("%q is called %q", name, each.Name)
			}
			if set == nil {
				set = opencost.NewAllocationSet(*each.Window.Start(), *each.Window.End())
			}
			if err := set.Insert(each); err != nil {
				log.Fatal(err)
			}
		}
		if set != nil {
			sets = append(sets, set)
		}
	}
	whole, err := opencost.NewAllocationSetRange(sets...).Accumulate(opencost.AccumulateOptionAll)
	if err != nil {
		log.Fatal(err)
	}
	rows := []row{}
	total := 0.0
	for _, set := range whole.Allocations {
		total += set.TotalCost()
		for name, a := range set.Allocations {
			namespace := ""
			if a.Properties != nil {
				namespace = a.Properties.Namespace
			}
			rows = append(rows, row{
				name, namespace, a.CPUCoreHours, a.CPUCores(), a.RAMBytes(), a.SharedCost, a.ExternalCost, a.TotalCost(), a.Minutes(),
				totals[name], minutes[name],
			})
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"sets": len(sets), "rows": rows, "total": total}); err != nil {
		log.Fatal(err)
	}
}
