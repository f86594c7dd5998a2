package examples

import (
	"encoding/json"
	"testing"

	"gotest.tools/v3/assert"
)

// visit is what the page of the Django example says.
type visit struct {
	Visits int
	User   string `json:"database_user"`
}

// visits asks for the page with the session in a file of curl's, which is new when there is
// no such file.
func (e *example) visits(session string) visit {
	e.t.Helper()
	out, err := e.command(e.t.Context(), "curl -fsS -c "+session+" -b "+session+" http://127.0.0.1:8080/").Output()
	assert.NilError(e.t, err)
	var v visit
	assert.NilError(e.t, json.Unmarshal(out, &v))
	return v
}

func TestDjango_ASessionOutlivesItsKeyByOneRotation(t *testing.T) {
	e := open(t, "django")
	for _, session := range []string{"used", "forgotten"} {
		assert.Equal(t, e.visits(session).Visits, 1)
	}
	e.value("signing_keys")

	e.loaded("/", func() { e.follow("Another key") })

	assert.Equal(t, e.visits("used").Visits, 2, "it was signed with the key before")
	e.value("signing_keys")
	e.follow("Another key")
	assert.Equal(t, e.visits("used").Visits, 3, "the visit before has signed it with the newer key")
	assert.Equal(t, e.visits("forgotten").Visits, 1, "the key that had signed it is gone")
	e.keepsSecrets()
	e.follow("End")
}

// databaseLogin asks the server over the network, as the application does.
func (e *example) databaseLogin(user, password string) (string, error) {
	return e.in("db", []string{"PGPASSWORD=" + password}, "sh", "-c", `psql -qAt -h "$(hostname)" -U `+user+` -d app -c 'SELECT current_user'`)
}

func TestDjango_TheUsersOfTheDatabaseTakeTurns(t *testing.T) {
	e := open(t, "django")
	process := e.process("db")
	assert.Equal(t, e.visits("mine").User, "app_a")
	first := e.field("database", "password")

	e.loaded("/", func() { e.follow("Another user of the database") })

	assert.Equal(t, e.visits("mine"), visit{Visits: 2, User: "app_b"})
	for user, password := range map[string]string{"app_a": first, "app_b": e.field("database", "password")} {
		out, err := e.databaseLogin(user, password)
		assert.NilError(t, err, "%s is good until its turn comes: %s", user, out)
		assert.Equal(t, out, "app", "what one user makes belongs to the other too")
	}

	e.loaded("/", func() { e.follow("And the first one again") })

	assert.Equal(t, e.visits("mine"), visit{Visits: 3, User: "app_a"})
	_, err := e.databaseLogin("app_a", first)
	assert.ErrorContains(t, err, "password authentication failed")
	out, err := e.databaseLogin("app_a", e.field("database", "password"))
	assert.NilError(t, err, out)
	assert.Equal(t, e.process("db"), process, "the server was not restarted")
	e.keepsSecrets()
	e.follow("End")
}

// field is a member of a secret that is a JSON object.
func (e *example) field(secret, name string) string {
	e.t.Helper()
	var fields map[string]string
	assert.NilError(e.t, json.Unmarshal([]byte(e.value(secret)), &fields))
	e.values = append(e.values, fields[name])
	return fields[name]
}
