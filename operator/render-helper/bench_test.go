package main

import (
	"testing"
)

func BenchmarkRender(b *testing.B) {
	r, err := NewRenderer("../../charts/tenant")
	if err != nil {
		b.Fatal(err)
	}
	values := []byte(`{"tenant":{"name":"t1","generation":1},"image":{"repository":"tenantry","tag":"dev-1"},"policy":{"apiVersion":"policy.tenantry.dev/v1","tenant":"t1"},"namespace":{"create":true,"name":"tenant-t1"},"owners":[{"kind":"User","name":"a"}],"keys":["default"],"upstreamSecrets":["openai"],"autoscaling":{"minReplicas":1,"maxReplicas":4}}`)
	for b.Loop() {
		if _, err := r.Render("t1", "tenant-t1", values); err != nil {
			b.Fatal(err)
		}
	}
}
