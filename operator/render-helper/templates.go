package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"helm.sh/helm/v3/pkg/chart"
	"sigs.k8s.io/yaml"
)

// templates are a chart's templates, parsed once. Helm's own engine parses them again on every render, which is a third
// of its time, and brings all of client-go along for its lookup function. That both give the same is held by
// tests/unit/operator/render/test_matches_helm.py.
//
// Functions whose result depends on anything but the values do not exist here (see impure), so that a chart which uses
// one is refused when it is loaded instead of rendering something new each time.
type templates struct {
	root  *template.Template
	names []string
	chart chart.Metadata
}

// impure functions of sprig: clock, dice, fresh keys, the process' environment, the network.
var impure = []string{
	"ago", "date", "dateInZone", "date_in_zone", "dateModify", "date_modify", "mustDateModify", "must_date_modify", "now",
	"htmlDate", "htmlDateInZone", "randAlpha", "randAlphaNum", "randAscii", "randBytes", "randInt", "randNumeric",
	"shuffle", "uuidv4", "genCA", "genCAWithKey", "genPrivateKey", "genSelfSignedCert", "genSelfSignedCertWithKey",
	"genSignedCert", "genSignedCertWithKey", "bcrypt", "htpasswd", "encryptAES", "env", "expandenv", "getHostByName",
}

func parseTemplates(loaded *chart.Chart) (*templates, error) {
	if len(loaded.Dependencies()) > 0 {
		return nil, errors.New("a tenant chart has no subcharts")
	}
	root := template.New("chart").Option("missingkey=zero")
	root.Funcs(functions(root))
	parsed := &templates{root: root, chart: *loaded.Metadata}
	for _, file := range loaded.Templates {
		name := path.Join(loaded.Name(), file.Name)
		if _, err := root.New(name).Parse(string(file.Data)); err != nil {
			return nil, err
		}
		if base := path.Base(name); !strings.HasPrefix(base, "_") && base != "NOTES.txt" {
			parsed.names = append(parsed.names, name)
		}
	}
	slices.Sort(parsed.names)
	return parsed, nil
}

func functions(root *template.Template) template.FuncMap {
	known := sprig.TxtFuncMap()
	for _, name := range impure {
		delete(known, name)
	}
	known["include"] = func(name string, data any) (string, error) {
		var text strings.Builder
		err := root.ExecuteTemplate(&text, name, data)
		return text.String(), err
	}
	known["fail"] = func(message string) (string, error) { return "", refusal(message) }
	known["required"] = func(message string, value any) (any, error) {
		if value == nil || value == "" {
			return nil, refusal(message)
		}
		return value, nil
	}
	known["toYaml"] = func(value any) string {
		text, err := yaml.Marshal(value)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(text), "\n")
	}
	known["toJson"] = func(value any) string {
		text, err := json.Marshal(value)
		if err != nil {
			return ""
		}
		return string(text)
	}
	return known
}

// refusal is what a chart says when it fails on purpose: all that the user wants to read of the error.
type refusal string

func (r refusal) Error() string { return string(r) }

// execute gives the text of each file. Release and values are what they are in Helm; there are no Capabilities, since
// what a cluster can do is not among the values.
func (t *templates) execute(release map[string]any, values map[string]any) (map[string]string, error) {
	texts := make(map[string]string, len(t.names))
	for _, name := range t.names {
		var text strings.Builder
		err := t.root.ExecuteTemplate(&text, name, map[string]any{
			"Chart":    t.chart,
			"Release":  release,
			"Values":   values,
			"Template": map[string]any{"Name": name, "BasePath": path.Dir(name)},
		})
		var refused refusal
		if errors.As(err, &refused) {
			return nil, fmt.Errorf("%s: %w", name, refused)
		}
		if err != nil {
			return nil, err
		}
		// What text/template prints for nil, despite missingkey=zero; Helm removes it too.
		texts[name] = strings.ReplaceAll(text.String(), "<no value>", "")
	}
	return texts, nil
}
