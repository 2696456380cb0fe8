package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"helm.sh/helm/v3/pkg/chart"
	"sigs.k8s.io/yaml"
)

// decodeValues keeps integers exact: as float64, which JSON decodes to, nano-dollars would lose their last digits.
func decodeValues(raw []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var values map[string]any
	if err := decoder.Decode(&values); err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	return exact(values).(map[string]any), nil
}

func exact(value any) any {
	switch typed := value.(type) {
	case map[string]any:
		for key, inner := range typed {
			typed[key] = exact(inner)
		}
	case []any:
		for index, inner := range typed {
			typed[index] = exact(inner)
		}
	case json.Number:
		if integer, err := typed.Int64(); err == nil {
			return integer
		}
		float, _ := typed.Float64()
		return float
	}
	return value
}

// defaultValues is the chart's values.yaml, as JSON: each render decodes its own copy, which no other one shares.
func defaultValues(loaded *chart.Chart) ([]byte, error) {
	for _, file := range loaded.Raw {
		if file.Name == "values.yaml" {
			return yaml.YAMLToJSON(file.Data)
		}
	}
	return []byte("{}"), nil
}

// overlay puts what is given over the defaults, as Helm does: tables merge, null takes a default away (and is
// a value like any other where there is none), everything else replaces it.
func overlay(defaults, given map[string]any) map[string]any {
	for key, value := range given {
		if _, known := defaults[key]; known && value == nil {
			delete(defaults, key)
			continue
		}
		table, isTable := value.(map[string]any)
		below, hasTable := defaults[key].(map[string]any)
		if isTable && hasTable {
			defaults[key] = overlay(below, table)
		} else {
			defaults[key] = value
		}
	}
	return defaults
}
