package target_test

import (
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/target"
)

func ref(variable string) []target.Reference {
	return []target.Reference{{Variable: variable, Ref: "dso://app/" + variable}}
}

func TestFor_GivesThoseWhoAreNamedOrHaveAllLabels(t *testing.T) {
	service := map[string]string{"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}
	for name, tc := range map[string]struct {
		rule target.Rule
		c    target.Container
		met  bool
	}{
		"its name":                 {target.Rule{Containers: []string{"web"}}, target.Container{Name: "web"}, true},
		"another name":             {target.Rule{Containers: []string{"web"}}, target.Container{Name: "web2"}, false},
		"a pattern":                {target.Rule{Containers: []string{"shop-*-1"}}, target.Container{Name: "shop-web-1"}, true},
		"its service":              {target.Rule{Containers: []string{"shop/web"}}, target.Container{Name: "x", Labels: service}, true},
		"any service of a project": {target.Rule{Containers: []string{"shop/*"}}, target.Container{Name: "x", Labels: service}, true},
		"a star is no slash":       {target.Rule{Containers: []string{"*b"}}, target.Container{Name: "x", Labels: service}, false},
		"a replacement":            {target.Rule{Containers: []string{"web"}}, target.Container{Name: "web_dso_new_1700000000"}, true},
		"a parked original":        {target.Rule{Containers: []string{"web"}}, target.Container{Name: "web_dso_backup_1700000000"}, true},
		"all labels":               {target.Rule{Labels: map[string]string{"a": "1", "b": ""}}, target.Container{Labels: map[string]string{"a": "1", "b": "2"}}, true},
		"one of the labels":        {target.Rule{Labels: map[string]string{"a": "1", "b": ""}}, target.Container{Labels: map[string]string{"a": "1"}}, false},
		"a label of another value": {target.Rule{Labels: map[string]string{"a": "1"}}, target.Container{Labels: map[string]string{"a": "2"}}, false},
		"nobody":                   {target.Rule{}, target.Container{Name: "web"}, false},
	} {
		tc.rule.References = ref("V")
		got := target.Rules{Rules: []target.Rule{tc.rule}}.For(tc.c)
		assert.Equal(t, len(got.References) == 1, tc.met, name)
	}
}

func TestFor_TheFirstRuleCounts(t *testing.T) {
	all := []string{"*"}
	rs := target.Rules{Rules: []target.Rule{
		{Containers: all, References: []target.Reference{{Variable: "A", Ref: "dso://first"}}, Settings: map[string]string{"x": "1"}},
		{Containers: all, References: []target.Reference{{Variable: "A", Ref: "dso://second"}, {Variable: "B", Ref: "dso://b"}}, Settings: map[string]string{"x": "2", "y": "3"}},
	}}
	assert.DeepEqual(t, rs.For(target.Container{Name: "web"}), target.Given{
		References: []target.Reference{{Variable: "A", Ref: "dso://first"}, {Variable: "B", Ref: "dso://b"}},
		Settings:   map[string]string{"x": "1", "y": "3"},
	})
}

// What the label names it gets, as if the specification named it; never less.
func TestFor_TheLabelNamesEntries(t *testing.T) {
	rules := []target.Rule{
		{Name: "shop/db", References: []target.Reference{{Variable: "DB", Ref: "dso://shop/db"}}},
		{Name: "shop/db", Containers: []string{"admin"}, References: []target.Reference{{Variable: "ROOT", Ref: "dso://shop/root"}}},
		{Name: "api", References: []target.Reference{{Variable: "API", Ref: "dso://api"}}},
	}
	labels := func(names string) target.Container {
		return target.Container{Name: "web", Labels: map[string]string{"dso.secrets": names}}
	}
	variables := func(g target.Given) (names []string) {
		for _, r := range g.References {
			names = append(names, r.Variable)
		}
		return names
	}
	open, strict := target.Rules{Rules: rules}, target.Rules{Strict: true, Rules: rules}
	assert.DeepEqual(t, variables(open.For(labels("shop/db, api"))), []string{"DB", "ROOT", "API"})
	assert.NilError(t, open.For(labels("shop/db, api")).Refused())
	assert.NilError(t, open.For(labels("")).Refused())
	assert.Assert(t, len(open.For(target.Container{Name: "web"}).References) == 0, "an entry without targets is for nobody else")

	assert.ErrorContains(t, open.For(labels("api,shop/dv")).Refused(), "names shop/dv")
	assert.ErrorContains(t, target.Rules{}.For(labels("api")).Refused(), "names api")
	assert.ErrorContains(t, strict.For(labels("api")).Refused(), "strict", "a label gives nothing that a target does not")
	admin := labels("shop/db")
	admin.Name = "admin"
	assert.DeepEqual(t, variables(strict.For(admin)), []string{"ROOT"})
	assert.NilError(t, strict.For(admin).Refused())
}

func TestLoad_OfWhatCannotBeReadIsAnErrorAndOfNothingIsNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "targets.json")
	rs, err := target.Load(file)
	assert.NilError(t, err)
	assert.DeepEqual(t, rs, target.Rules{})
	want := target.Rules{Strict: true, Rules: []target.Rule{{Containers: []string{"web"}, References: ref("A")}}}
	assert.NilError(t, target.Save(file, want))
	rs, err = target.Load(file)
	assert.NilError(t, err)
	assert.DeepEqual(t, rs, want)
	assert.NilError(t, os.WriteFile(file, []byte("{"), 0o600))
	_, err = target.Load(file)
	assert.ErrorContains(t, err, "a restart of dso-agent writes it anew")
}
