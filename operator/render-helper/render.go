package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sort"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
)

// Renderer holds one loaded chart. Safe for use by many goroutines.
type Renderer struct {
	defaults  []byte
	templates *templates
	schema    *jsonschema.Schema
	blocks    blocks
	chartName string
	digest    string
	version   string
}

// NewRenderer loads the chart in directory. Templates and schema are compiled once here, which Helm does on every render.
func NewRenderer(directory string) (*Renderer, error) {
	loaded, err := loader.LoadDir(directory)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", directory, err)
	}
	renderer := &Renderer{
		chartName: loaded.Name() + "-" + loaded.Metadata.Version,
		digest:    chartDigest(loaded),
		version:   Version + " helm/" + helmVersion(),
	}
	if renderer.defaults, err = defaultValues(loaded); err != nil {
		return nil, fmt.Errorf("chart %s: values.yaml: %w", directory, err)
	}
	if renderer.templates, err = parseTemplates(loaded); err != nil {
		return nil, fmt.Errorf("chart %s: %w", directory, err)
	}
	if loaded.Schema != nil {
		if renderer.schema, err = compileSchema(loaded.Schema); err != nil {
			return nil, fmt.Errorf("chart %s: values.schema.json: %w", directory, err)
		}
	}
	return renderer, nil
}

// Render returns the chart's objects for these values, in the order in which Helm would install them.
func (r *Renderer) Render(release, namespace string, values json.RawMessage) ([]json.RawMessage, error) {
	given, err := decodeValues(values)
	if err != nil {
		return nil, err
	}
	defaults, err := decodeValues(r.defaults)
	if err != nil {
		return nil, err
	}
	merged := overlay(defaults, given)
	if err := r.validate(merged); err != nil {
		return nil, err
	}
	texts, err := r.templates.execute(map[string]any{"Name": release, "Namespace": namespace, "Service": "tenantry"}, merged)
	if err != nil {
		return nil, err
	}
	return r.objects(texts)
}

func (r *Renderer) validate(values map[string]any) error {
	if r.schema == nil {
		return nil
	}
	err := r.schema.Validate(values)
	var invalid *jsonschema.ValidationError
	if errors.As(err, &invalid) {
		return fmt.Errorf("values: %s", strings.Join(leaves(invalid), "; "))
	}
	return err
}

var printer = message.NewPrinter(language.English)

// leaves says for each value that is wrong where it is and what is wrong with it.
func leaves(invalid *jsonschema.ValidationError) []string {
	if len(invalid.Causes) == 0 {
		place := strings.Join(invalid.InstanceLocation, ".")
		return []string{strings.TrimPrefix(place+": ", ": ") + invalid.ErrorKind.LocalizedString(printer)}
	}
	var found []string
	for _, cause := range invalid.Causes {
		found = append(found, leaves(cause)...)
	}
	return found
}

type object struct {
	kind string
	key  string
	json json.RawMessage
}

// objects splits rendered files into their documents, as JSON, ordered by kind and then by namespace and name.
func (r *Renderer) objects(files map[string]string) ([]json.RawMessage, error) {
	var found []object
	for name, content := range files {
		for document := range strings.SplitSeq("\n"+content, "\n---") {
			if strings.TrimSpace(document) == "" {
				continue
			}
			one, err := r.parse(document)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if one != nil {
				found = append(found, *one)
			}
		}
	}
	sort.Slice(found, func(i, j int) bool {
		left, right := rank(found[i].kind), rank(found[j].kind)
		if left != right {
			return left < right
		}
		return found[i].key < found[j].key
	})
	sorted := make([]json.RawMessage, len(found))
	for index, one := range found {
		sorted[index] = one.json
	}
	return sorted, nil
}

func (r *Renderer) parse(document string) (*object, error) {
	encoded, err := r.blocks.toJSON(document)
	if err != nil {
		return nil, err
	}
	if string(encoded) == "null" {
		return nil, nil
	}
	var head struct {
		Kind     string `json:"kind"`
		Metadata struct {
			Name        string            `json:"name"`
			Namespace   string            `json:"namespace"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(encoded, &head); err != nil {
		return nil, err
	}
	if head.Kind == "" || head.Metadata.Name == "" {
		return nil, errors.New("a document without kind or metadata.name")
	}
	if head.Metadata.Annotations["helm.sh/hook"] != "" {
		return nil, errors.New("hooks are not run here: " + head.Kind + " " + head.Metadata.Name)
	}
	key := head.Kind + "/" + head.Metadata.Namespace + "/" + head.Metadata.Name
	return &object{kind: head.Kind, key: key, json: encoded}, nil
}

// installOrder is Helm's, for the kinds that a tenant can have: what others refer to comes first.
var installOrder = []string{
	"Namespace", "NetworkPolicy", "ResourceQuota", "LimitRange", "PodDisruptionBudget", "ServiceAccount", "Secret",
	"ConfigMap", "Role", "RoleBinding", "Service", "Deployment", "HorizontalPodAutoscaler",
}

// rank is a kind's place in that order; other kinds come last.
func rank(kind string) int {
	if place := slices.Index(installOrder, kind); place >= 0 {
		return place
	}
	return len(installOrder)
}

// chartDigest is over everything of the chart that can change what it renders.
func chartDigest(loaded *chart.Chart) string {
	files := slices.Clone(loaded.Raw)
	slices.SortFunc(files, func(a, b *chart.File) int { return strings.Compare(a.Name, b.Name) })
	sum := sha256.New()
	for _, file := range files {
		fmt.Fprintf(sum, "%d %s %d ", len(file.Name), file.Name, len(file.Data))
		sum.Write(file.Data)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func compileSchema(raw []byte) (*jsonschema.Schema, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("values.schema.json", document); err != nil {
		return nil, err
	}
	return compiler.Compile("values.schema.json")
}

func helmVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "helm.sh/helm/v3" {
				return module.Version
			}
		}
	}
	return "unknown"
}
