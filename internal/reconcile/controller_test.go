package reconcile_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

func TestSync_RotatesExactlyTheUsersOfTheSecret(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.Secrets.Set("app/mail", "one")
		a.up(t, "web", usesDB)
		a.up(t, "files", hosttest.Env("DB_FILE=dsofile://app/db"))
		a.up(t, "mailer", hosttest.Env("MAIL=dso://app/mail"))
		a.up(t, "plain", hosttest.Env("DB=postgres://x"))
		a.Secrets.Set("app/db", "two")
		a.Secrets.Set("app/mail", "two")

		results, err := a.Sync(t.Context(), reconcile.Target{Secret: id("app/db"), Cause: "secret set"})
		assert.NilError(t, err)
		assert.DeepEqual(t, outcomes(results), map[string]rotation.Outcome{"web": rotation.OutcomeRotated, "files": rotation.OutcomeRotated})
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
		assert.Equal(t, a.has(t, "files", "app/db"), secret.Version("2"))
		assert.Equal(t, a.has(t, "mailer", "app/mail"), secret.Version("1"))
		assert.Equal(t, a.Journal.All()[0].Cause, "secret set")
		assert.DeepEqual(t, a.names(), []string{"files", "mailer", "plain", "web"})
	})
}

func TestSync_WithoutANameBringsAllUpToDate(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.Secrets.Set("app/mail", "one")
		a.up(t, "web", usesDB)
		a.up(t, "mailer", hosttest.Env("MAIL=dso://app/mail"))
		a.up(t, "plain", hosttest.Env("DB=postgres://x"))
		a.Secrets.Set("app/db", "two")
		results, err := a.Sync(t.Context(), reconcile.Target{Cause: "sync"})
		assert.NilError(t, err)
		assert.DeepEqual(t, outcomes(results), map[string]rotation.Outcome{"web": rotation.OutcomeRotated, "mailer": ""})
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
		assert.Equal(t, a.Journal.All()[0].Cause, "sync")
	})
}

func TestSync_LeavesWhatIsUpToDate(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		web := a.up(t, "web", usesDB)
		before := a.Host.Engine.Calls()
		results, err := a.Sync(t.Context(), reconcile.Target{Secret: id("app/db")})
		assert.NilError(t, err)
		assert.DeepEqual(t, results, []reconcile.Result{{Container: "web"}})
		assert.Equal(t, len(a.since(before)), 0)
		assert.Equal(t, a.Container(t, "web").ID, web.ID)
	})
}

func TestSync_ForceRotatesAlsoWhatIsUpToDate(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		web, other := a.up(t, "web", usesDB), a.up(t, "other", usesDB)
		results, err := a.Sync(t.Context(), reconcile.Target{Container: "web", Force: true, Cause: "asked"})
		assert.NilError(t, err)
		assert.DeepEqual(t, outcomes(results), map[string]rotation.Outcome{"web": rotation.OutcomeRotated})
		assert.Assert(t, a.Container(t, "web").ID != web.ID)
		assert.Equal(t, a.Container(t, "other").ID, other.ID)
	})
}

func TestSync_UnknownContainerIsAnError(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		_, err := a.Sync(t.Context(), reconcile.Target{Container: "nothing"})
		assert.ErrorIs(t, err, reconcile.ErrNoContainer)
	})
}

func TestSync_SecretWithoutUsersIsNothingToDo(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		results, err := a.Sync(t.Context(), reconcile.Target{Secret: id("app/nobody")})
		assert.NilError(t, err)
		assert.Equal(t, len(results), 0)
	})
}

func TestSync_ProviderThatFailsIsReportedAndNothingIsTouched(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		before := a.Host.Engine.Calls()
		a.Secrets.Break(errors.New("connection refused"))
		results, err := a.Sync(t.Context(), reconcile.Target{Secret: id("app/db")})
		assert.NilError(t, err)
		contains(t, results[0].Error, "connection refused")
		assert.Equal(t, len(a.since(before)), 0)
	})
}

func TestSync_SameNamedServicesOfTwoProjectsAreDistinct(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("shop/db", "one")
		a.Secrets.Set("blog/db", "one")
		db := hosttest.Env("DB=dso://db")
		a.up(t, "shop-web-1", db, hosttest.Service("shop", "web"))
		blog := a.up(t, "blog-web-1", db, hosttest.Service("blog", "web"))
		a.Secrets.Set("shop/db", "two")
		results, err := a.Sync(t.Context(), reconcile.Target{Secret: id("shop/db")})
		assert.NilError(t, err)
		assert.DeepEqual(t, outcomes(results), map[string]rotation.Outcome{"shop-web-1": rotation.OutcomeRotated})
		assert.Equal(t, a.Container(t, "blog-web-1").ID, blog.ID)
		assert.Equal(t, a.has(t, "shop-web-1", "shop/db"), secret.Version("2"))
	})
}

func TestSync_ReplicasChangeOneAfterTheOther(t *testing.T) {
	for _, strategy := range []rotation.Strategy{rotation.Rolling, rotation.Restart} {
		t.Run(string(strategy), func(t *testing.T) {
			onHost(t, func(t *testing.T, a *agent) {
				a.Secrets.Set("app/db", "one")
				names := []string{"app-web-1", "app-web-2", "app-web-3"}
				for _, name := range names {
					a.up(t, name, usesDB, hosttest.Service("app", "web"), hosttest.Label(label.Strategy, string(strategy)))
				}
				lowest := 3
				a.Behave = func(c engine.Container, _ secret.Versions) enginetest.Behaviour {
					serving := 0
					for _, other := range a.Host.Engine.All() {
						if other.ID != c.ID && other.State.Health == container.Healthy {
							serving++
						}
					}
					lowest = min(lowest, serving)
					return enginetest.Behaviour{HealthyAfter: time.Second}
				}
				a.Secrets.Set("app/db", "two")
				results, err := a.Sync(t.Context(), reconcile.Target{Secret: id("app/db")})
				assert.NilError(t, err)
				assert.Equal(t, len(results), 3)
				for _, name := range names {
					assert.Equal(t, outcomes(results)[name], rotation.OutcomeRotated)
					assert.Equal(t, a.has(t, name, "app/db"), secret.Version("2"))
				}
				want := 2
				if strategy == rotation.Rolling {
					want = 3
				}
				assert.Equal(t, lowest, want)
			})
		})
	}
}

func TestSync_FailedVersionIsNotTriedAgainByItself(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.badVersion("2")
		a.Secrets.Set("app/db", "one")
		web := a.up(t, "web", usesDB)
		a.run(t)
		a.set("app/db", "bad")
		settle()
		assert.Equal(t, a.Journal.All()[0].Outcome, rotation.OutcomeRolledBack)
		assert.Equal(t, a.Container(t, "web").ID, web.ID)

		before := a.Host.Engine.Calls()
		time.Sleep(time.Hour)
		assert.Equal(t, len(a.since(before)), 0, "%v", a.since(before))
		results, err := a.Sync(t.Context(), reconcile.Target{Secret: id("app/db")})
		assert.NilError(t, err)
		contains(t, results[0].Error, "pinned to the versions before: local:app/db version 2 failed its health gate")
		assert.Equal(t, len(a.since(before)), 0)

		a.Kill(web.ID) // a crash restart does not pick up the bad one
		settle()
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("1"))
		assert.Equal(t, a.Container(t, "web").State.Health, container.Healthy)

		results, err = a.Sync(t.Context(), reconcile.Target{Secret: id("app/db"), Force: true})
		assert.NilError(t, err)
		assert.Equal(t, results[0].Outcome, rotation.OutcomeRolledBack, "force tries it again")

		a.set("app/db", "good")
		settle()
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("3"))
		_, pinned := a.Store.Pinned(a.Container(t, "web").ID)
		assert.Assert(t, !pinned)
	})
}

func TestController_RestartOfTheAgentRotatesNothing(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.up(t, "app-web-1", usesDB, hosttest.Service("app", "web"))
		before := a.Host.Engine.Calls()
		for range 3 {
			a.run(t)
			settle()
			a = a.again(t)
		}
		assert.Equal(t, len(a.since(before)), 0, "%v", a.since(before))
		assert.Equal(t, len(a.Journal.All()), 0)
	})
}

func TestController_ChangeWhileNoAgentRanIsFound(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.Secrets.Set("app/db", "two")
		a = a.again(t)
		a.run(t)
		settle()
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
	})
}

func TestController_StrategyNoneLeavesTheEnvironmentForTheNextStart(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.Secrets.Set("app/key", "one")
		a.up(t, "web", usesDB, hosttest.Env("KEY=dsofile://app/key"), hosttest.Label(label.Strategy, label.None))
		a.run(t)
		a.Secrets.Set("app/key", "two")
		a.set("app/db", "two")
		settle()
		assert.Equal(t, a.has(t, "web", "app/key"), secret.Version("2"))
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("1"))
		rows, err := a.Status(t.Context())
		assert.NilError(t, err)
		assert.Assert(t, !rows[0].UpToDate)

		before := len(a.Journal.All())
		a.set("app/db", "three")
		time.Sleep(time.Hour)
		assert.Equal(t, len(a.Journal.All()), before, "nothing is tried again and again")
		assert.NilError(t, a.Host.Engine.Restart(t.Context(), "web"))
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("3"))
	})
}

func TestController_ValueThatLacksTheFieldIsKeptOff(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", `{"password": "one"}`)
		a.up(t, "web", hosttest.Env("KEY=dsofile://app/db#password"), hosttest.Label(label.Strategy, label.None))
		a.run(t)
		a.set("app/db", `{"passwort": "two"}`)
		settle()
		pin, pinned := a.Store.Pinned(a.Container(t, "web").ID)
		assert.Assert(t, pinned)
		assert.DeepEqual(t, pin.Failed, secret.Versions{id("app/db"): "2"})
		assert.NilError(t, a.Host.Engine.Restart(t.Context(), "web"))
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("1"))
	})
}

func TestController_OtherRuntimesAreLeftAlone(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB, func(s *engine.Spec) { s.HostConfig.Runtime = "runc" })
		before := a.Host.Engine.Calls()
		a.run(t)
		a.set("app/db", "two")
		settle()
		assert.Equal(t, len(a.since(before)), 0)
		users, err := a.Users(t.Context(), id("app/db"))
		assert.NilError(t, err)
		assert.Equal(t, len(users), 0)
	})
}

func TestController_StrangersWithOurNamesAreNeverTouched(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		strangers := []string{"web_dso_new_1", "web_dso_backup_1", "x_dso_backup_1700000000"}
		for _, name := range strangers {
			a.up(t, name)
		}
		a.run(t)
		a.set("app/db", "two")
		settle()
		a = a.again(t)
		a.run(t)
		settle()
		for _, name := range strangers {
			assert.Assert(t, a.Container(t, name).Running())
			assert.Assert(t, !slices.ContainsFunc(a.Host.Engine.Calls(), func(call string) bool {
				return strings.HasSuffix(call, name) && !strings.HasPrefix(call, "create") && !strings.HasPrefix(call, "start")
			}))
		}
		assert.Equal(t, len(a.names()), 4)
	})
}

func TestController_ChangeDuringARotationLeadsToAnother(t *testing.T) {
	for _, strategy := range []rotation.Strategy{rotation.Rolling, rotation.Restart} {
		t.Run(string(strategy), func(t *testing.T) {
			onHost(t, func(t *testing.T, a *agent) {
				a.Secrets.Set("app/db", "one")
				a.up(t, "web", usesDB, hosttest.Label(label.Strategy, string(strategy)))
				a.run(t)
				a.set("app/db", "two")
				time.Sleep(500 * time.Millisecond)
				assert.Equal(t, len(a.Journal.Pending()), 1)
				a.set("app/db", "three")
				settle()
				assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("3"))
				assert.DeepEqual(t, a.names(), []string{"web"})
			})
		})
	}
}

func TestController_StartsWhatItsOwnRuntimeRefused(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.up(t, "job", usesDB, hosttest.Policy(container.RestartPolicyDisabled))
		a.stop()
		a.Die()
		a.Host.Engine.RestartEngine()
		contains(t, a.Container(t, "web").State.Error, "dso: no agent answers")

		a = a.again(t)
		a.run(t)
		settle()
		assert.Assert(t, a.Container(t, "web").Running())
		assert.Assert(t, !a.Container(t, "job").Running(), "it has no restart policy")
	})
}

func TestController_ContainerStoppedByAPersonStaysStopped(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.run(t)
		settle()
		assert.NilError(t, a.Host.Engine.Stop(t.Context(), "web"))
		a.set("app/db", "two")
		time.Sleep(10 * time.Minute)
		assert.Assert(t, !a.Container(t, "web").Running())
	})
}

func TestController_StartThatKeepsFailingIsNotHammered(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.run(t)
		a.Secrets.Break(provider.ErrDenied)
		a.Kill("web") // the engine tries once, the runtime refuses
		before := a.Host.Engine.Calls()
		time.Sleep(10 * time.Minute)
		tries := len(a.since(before))
		assert.Assert(t, tries > 5 && tries < 40, "%d tries in 10 minutes", tries)

		a.Secrets.Break(nil)
		time.Sleep(2 * time.Minute)
		assert.Assert(t, a.Container(t, "web").Running())
	})
}

func TestController_EngineThatRestartsIsFollowed(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.run(t)
		a.Host.Engine.SetDown(true)
		a.Secrets.Set("app/db", "two")
		settle()
		a.Host.Engine.SetDown(false)
		settle()
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))

		a.Host.Engine.RestartEngine()
		settle()
		a.set("app/db", "three")
		settle()
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("3"))
	})
}

func TestController_ContainerThatIsGoneIsForgotten(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.up(t, "other", usesDB)
		a.run(t)
		assert.NilError(t, a.Host.Engine.Remove(t.Context(), "web"))
		settle()
		known, err := a.Store.Known()
		assert.NilError(t, err)
		assert.DeepEqual(t, known, []string{a.Container(t, "other").ID})

		a.stop()
		assert.NilError(t, a.Host.Engine.Remove(t.Context(), "other"))
		a = a.again(t)
		a.run(t)
		settle()
		known, err = a.Store.Known()
		assert.NilError(t, err)
		assert.Equal(t, len(known), 0)
	})
}

func TestController_ServiceTakenDownMeanwhileIsNotBroughtBack(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		for i := range 3 {
			a.up(t, fmt.Sprintf("app-web-%d", i+1), usesDB, hosttest.Service("app", "web"))
		}
		a.run(t)
		a.set("app/db", "two")
		time.Sleep(500 * time.Millisecond) // the first is at its gate
		for _, c := range a.Host.Engine.All() {
			assert.NilError(t, a.Host.Engine.Remove(t.Context(), c.ID))
		}
		settle()
		assert.Equal(t, len(a.names()), 0, "%v", a.names())
		assert.Equal(t, len(a.Journal.Pending()), 0)
		known, err := a.Store.Known()
		assert.NilError(t, err)
		assert.Equal(t, len(known), 0)
	})
}

func TestController_FrontGetsTheHealthyContainers(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		front := hosttest.Label(label.Front, "web-front")
		a.run(t)
		one := a.up(t, "app-web-1", usesDB, hosttest.Service("app", "web"), front)
		two := a.up(t, "app-web-2", usesDB, hosttest.Service("app", "web"), front)
		want := []string{one.ShortID(), two.ShortID()}
		slices.Sort(want)
		assert.DeepEqual(t, a.fronts().Targets("app_web"), want)

		a.set("app/db", "two")
		settle()
		want = []string{a.Container(t, "app-web-1").ShortID(), a.Container(t, "app-web-2").ShortID()}
		slices.Sort(want)
		assert.DeepEqual(t, a.fronts().Targets("app_web"), want)

		assert.NilError(t, a.Host.Engine.Stop(t.Context(), "app-web-1"))
		settle()
		assert.DeepEqual(t, a.fronts().Targets("app_web"), []string{a.Container(t, "app-web-2").ShortID()})
		assert.NilError(t, a.Host.Engine.Stop(t.Context(), "app-web-2"))
		settle()
		assert.DeepEqual(t, a.fronts().Targets("app_web"), []string{a.Container(t, "app-web-2").ShortID()}) // without a healthy one it keeps what it has
	})
}

func TestStatus_TellsWhatIs(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.up(t, "stuck", usesDB, hosttest.Label(label.Strategy, "signal"))
		a.Secrets.Set("app/db", "two")
		rows, err := a.Status(t.Context())
		assert.NilError(t, err)
		assert.Equal(t, len(rows), 2)
		assert.Equal(t, rows[0].Name, "web")
		assert.Equal(t, rows[0].Strategy, "rolling")
		assert.Assert(t, !rows[0].UpToDate)
		assert.DeepEqual(t, rows[0].Has, map[string]string{"local:app/db": "1"})
		assert.DeepEqual(t, rows[0].Wants, map[string]string{"local:app/db": "2"})
		contains(t, rows[1].Error, "dso.update.strategy=signal, and local:app/db reaches it in its environment")
	})
}
