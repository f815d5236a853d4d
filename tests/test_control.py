"""Progress, limits of time, callbacks and Ctrl-C: what is stopped keeps its best so far."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import warnings

import jax
import numpy as np
import pytest
from helpers import status
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import otmix_jax as om
from otmix_jax.fitting import control, course, many, progress, single
from otmix_jax.fitting.control import Watch

ONE = om.Starts(n_init=1)
SLOW = om.Limits(tolerance=1e-12, max_steps=400)
EM = om.solvers.EM()


@pytest.fixture(scope="module")
def faithful():
    return om.datasets.old_faithful().x


@pytest.fixture(autouse=True)
def calm(monkeypatch):
    """No test sees the Ctrl-C of the one before it."""
    monkeypatch.setattr(control, "_last", -np.inf)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture
def legs(monkeypatch):
    """Legs of so many steps."""

    def set_steps(count):
        monkeypatch.setattr(Watch, "steps", lambda self, work: np.int32(count))

    return set_steps


def one_start(x, **options):
    return om.fit(x, 3, key=1, starts=ONE, solver=EM, limits=SLOW, **options)


def at(number, do):
    """A callback that does something at a return to the host."""
    seen = itertools.count(1)
    return lambda report: do() if next(seen) == number else None


def yes():
    return True


def stop():
    raise StopIteration


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def stopped(fit, by="callback"):
    with pytest.warns(om.ConvergenceWarning, match=f"INTERRUPTED by {by}.*best so far"):
        solution = fit()
    assert status(solution) == "INTERRUPTED"
    return solution


def mean_cost(mixture, x):
    """By scipy."""
    laws = zip(*mixture.components.moments(), mixture.weights, strict=True)
    logs = [multivariate_normal(m, s).logpdf(x) + np.log(w) for m, s, w in laws]
    return -np.mean(logsumexp(logs, axis=0))


def same(one, other, but=()):
    for path, leaf in jax.tree_util.tree_leaves_with_path(one):
        if not any(name in jax.tree_util.keystr(path) for name in but):
            twin = dict(jax.tree_util.tree_leaves_with_path(other))[path]
            np.testing.assert_array_equal(leaf, twin, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("starts", [om.Starts(), om.Starts(n_init=3), ONE])
def test_the_answer_is_the_same_to_the_last_bit_however_it_is_divided(faithful, legs, starts):
    fits = []
    for steps in (10**6, 40 if starts.n_init is None else 3):
        legs(steps)
        reports = []
        fits.append(om.fit(faithful, 3, key=1, starts=starts, callback=reports.append))
    assert len(reports) > 3
    same(*fits)


def test_nothing_more_is_compiled_for_those_who_watch(faithful):
    programs = (single._best_of_starts, course._run.quick, course._draw.quick)

    def both(**options):
        om.fit(faithful, 3, key=0, **options)
        om.fit(faithful, 3, key=1, starts=om.Starts(n_init=3), **options)
        return [program._cache_size() for program in programs]

    before = both()
    assert both(time_limit=1e6, callback=lambda report: False) == before


def test_a_stop_keeps_the_steps_that_were_taken(faithful, legs):
    """The answer is that of a fit of as many steps."""
    legs(7)
    solution = stopped(lambda: one_start(faithful, callback=at(3, yes)))
    limits = om.Limits(tolerance=1e-12, max_steps=21 - 1)
    with pytest.warns(om.ConvergenceWarning, match="MAX_STEPS after 20"):
        short = om.fit(faithful, 3, key=1, starts=ONE, solver=EM, limits=limits)
    assert int(solution.n_steps) == 20
    same(solution, short, but=("status", "history"))
    np.testing.assert_array_equal(solution.history[:21], short.history[:21])
    assert float(solution.value) == pytest.approx(mean_cost(solution.mixture, faithful), abs=1e-10)


def test_starts_that_never_ran_are_not_chosen(monkeypatch, faithful, legs):
    monkeypatch.setattr(single, "SIDE_BY_SIDE", 10)
    legs(4)
    starts = om.Starts(n_init=3, initializer=om.initializers.kmeans_plus_plus)
    seen = []

    def second(report):
        seen.append(report)
        return report.done == 1

    solution = stopped(lambda: om.fit(faithful, 2, key=5, starts=starts, callback=second))
    assert (seen[-1].done, seen[-1].live, seen[-1].total) == (1, 2, 3)
    assert float(solution.value) == pytest.approx(mean_cost(solution.mixture, faithful), abs=1e-10)
    assert float(solution.value) == pytest.approx(seen[-1].value, abs=1e-10)


def test_what_a_callback_is_told(faithful, legs):
    legs(10)
    seen = []
    solution = one_start(faithful, callback=seen.append)
    first, last = seen[0], seen[-1]
    assert (first.stage, first.total, first.live, first.done) == ("starts", 1, 1, 0)
    assert (last.live, last.done) == (0, 1)
    # the evaluation of the start is one
    assert last.n_steps == int(solution.n_steps) + 1
    assert last.value == pytest.approx(float(solution.value), abs=1e-12)
    values = [report.value for report in seen]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(float(solution.history[9]), abs=1e-12)
    assert [r.seconds for r in seen] == sorted(r.seconds for r in seen)
    with pytest.raises(AttributeError):
        first.value = 0


@pytest.mark.parametrize("answer", [5, None, "x", 0, False])
def test_only_true_stops(faithful, legs, answer):
    legs(100)
    assert status(one_start(faithful, callback=lambda report: answer)) != "INTERRUPTED"


def test_stop_iteration_and_numpys_true_stop_too(faithful, legs):
    legs(7)
    for how in (stop, lambda: np.True_):
        stopped(lambda how=how: one_start(faithful, callback=at(1, how)))


def test_a_stop_at_the_end_stops_nothing(faithful, legs):
    legs(10**6)
    assert status(one_start(faithful, callback=lambda report: True)) != "INTERRUPTED"


def test_an_error_of_the_callback_is_the_users(faithful):
    with pytest.raises(ZeroDivisionError):
        one_start(faithful, callback=lambda report: 1 / 0)


def test_a_limit_of_time(monkeypatch, faithful, legs):
    legs(5)
    ticks = itertools.count()
    monkeypatch.setattr(control, "clock", lambda: float(next(ticks)))
    solution = stopped(lambda: one_start(faithful, time_limit=6.5), "time_limit")
    # made at 0, and three looks of a leg: at its start, its end, and at the limit
    assert int(solution.n_steps) == 3 * 5 - 1
    # the first leg always runs
    assert int(stopped(lambda: one_start(faithful, time_limit=1e-9), "time_limit").n_steps) == 4


@pytest.mark.parametrize("limit", [0, -1, float("nan"), True])
def test_a_limit_that_is_none(faithful, limit):
    with pytest.raises(ValueError, match="time_limit"):
        one_start(faithful, time_limit=limit)


@pytest.mark.parametrize("number", [1, 2, 3, 5, 8])
def test_a_race_is_stopped_anywhere(faithful, legs, number):
    legs(60)
    solution = stopped(lambda: om.fit(faithful, 3, key=0, callback=at(number, yes)))
    assert np.isclose(solution.mixture.weights.sum(), 1)
    assert float(solution.value) == pytest.approx(mean_cost(solution.mixture, faithful), abs=1e-9)


@pytest.mark.slow
def test_a_race_on_a_sample_is_stopped(legs):
    """What comes back is worth what it says on all rows."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(5000, 2)), rng.normal(size=(4000, 2)) + 4])
    legs(100)
    for number in (1, 4):
        solution = stopped(lambda n=number: om.fit(x, 2, key=0, callback=at(n, yes)))
        assert float(solution.value) == pytest.approx(mean_cost(solution.mixture, x), abs=1e-9)
    stages = []
    legs(5)
    stopped(lambda: om.fit(x, 2, key=0, callback=lambda r: stages.append(r.stage) or finish(r)))
    assert set(stages) == {"race", "finish"}


def finish(report):
    return report.stage == "finish"


def test_select_marks_what_it_did_not_reach(faithful, legs):
    legs(10**5)
    with pytest.warns(om.ConvergenceWarning, match="INTERRUPTED by callback: of 6 candidates 3"):
        choice = om.select(
            faithful,
            range(1, 4),
            covariance=("full", "tied"),
            key=0,
            goal=om.Goal(ridge=1e-3),
            callback=lambda report: "full" in report.stage.lower(),
        )
    names = [one.status.name for one in choice.candidates]
    assert names == ["INTERRUPTED"] * 6
    reached, not_reached = choice.candidates[:3], choice.candidates[3:]
    assert all(one.healthy and np.isfinite(one.bic) for one in reached)
    assert not any(one.healthy or np.isfinite(one.bic) for one in not_reached)
    assert [one.n_components for one in not_reached] == [1, 2, 3]
    assert choice.best_candidate in reached
    best = choice.best_candidate
    total = 2 * len(faithful) * mean_cost(best.solution.mixture, faithful)
    assert best.bic == pytest.approx(total + best.n_parameters * np.log(len(faithful)), abs=1e-6)
    assert "INTERRUPTED" in str(choice)


@pytest.mark.slow
def test_select_is_stopped_at_its_first_return(faithful, legs):
    legs(300)
    for starts in (om.Starts(), om.Starts(n_init=2)):
        with pytest.warns(om.ConvergenceWarning, match="INTERRUPTED"):
            choice = om.select(
                faithful, range(1, 4), covariance="tied", key=0, starts=starts, time_limit=1e-9
            )
        assert choice.best_candidate.status == om.Status.INTERRUPTED
        assert np.isfinite(choice.best_candidate.bic)
    with pytest.raises(om.FitError, match="before any candidate had its cross_validation"):
        om.select(
            faithful,
            [1, 2],
            covariance="tied",
            key=0,
            criterion="cross_validation",
            n_folds=2,
            time_limit=1e-9,
        )


def sets(faithful):
    return [faithful[:100], faithful[100:200], faithful[::3], faithful]


def test_a_batch_is_stopped(monkeypatch, faithful):
    monkeypatch.setattr(many, "_threads", lambda coupling: 1)
    told = {"key": 0, "starts": om.Starts(n_init=2), "slice_lanes": 2}
    whole = om.fit_batch(sets(faithful), 2, **told)
    seen = []
    with pytest.warns(om.ConvergenceWarning, match="4 of 4 problems.*4 INTERRUPTED"):
        batch = om.fit_batch(sets(faithful), 2, **told, callback=lambda r: seen.append(r) or True)
    assert len(seen) == 1
    assert (seen[0].stage, seen[0].total) == ("batch", 8)
    ran = np.isfinite(batch.value)
    assert ran.sum() == 1
    place = int(np.flatnonzero(ran)[0])
    own = mean_cost(batch[place].mixture, sets(faithful)[place])
    assert float(batch.value[place]) == pytest.approx(own, abs=1e-9)
    assert 0 < int(batch.n_steps[place]) <= many.STRIDE
    # what is over by then is what it would have been
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", om.ConvergenceWarning)
        part = om.fit_batch(sets(faithful), 2, **told, callback=lambda r: r.done >= 4)
    done = np.asarray(part.status) == om.Status.CONVERGED
    assert done.sum() >= 1
    np.testing.assert_array_equal(part.value[done], whole.value[done])


@pytest.mark.slow
def test_a_bootstrap_is_stopped(monkeypatch, faithful):
    monkeypatch.setattr(Watch, "steps", lambda self, work: np.int32(5))
    solution = om.fit(faithful, 2, key=0)
    for kind in ("resample", "jackknife"):
        told = {"kind": kind, "n_replications": 30, "key": 3}
        with pytest.warns(om.ConvergenceWarning, match="callback after 15 of (30|272)"):
            errors = om.inference.bootstrap(solution, faithful, **told, callback=at(3, yes))
        assert len(errors.healthy) == 15
        assert np.isfinite(errors.means).all()
    seen = []
    key, mixture = jax.random.key(0), solution.mixture
    whole = om.inference.parametric_bootstrap(key, mixture, 272, 12, callback=seen.append)
    assert [r.done for r in seen] == [5, 10, 12]
    assert seen[0].total == 12
    with pytest.warns(om.ConvergenceWarning, match="time_limit after 5 of 12"):
        part = om.inference.parametric_bootstrap(key, mixture, 272, 12, time_limit=1e-9)
    same(part, jax.tree.map(lambda leaf: leaf[:5], whole))


def test_ctrl_c_gives_the_best_so_far(faithful, legs):
    legs(7)
    solution = stopped(lambda: one_start(faithful, callback=at(2, interrupt)), "Ctrl-C")
    assert int(solution.n_steps) == 13


def test_a_second_ctrl_c_aborts(faithful, legs):
    legs(7)
    with pytest.raises(KeyboardInterrupt):
        one_start(faithful, callback=at(1, lambda: (interrupt(), interrupt())))
    # in the next fit too, if it comes soon
    control._last = -np.inf
    stopped(lambda: one_start(faithful, callback=at(1, interrupt)), "Ctrl-C")
    with pytest.raises(KeyboardInterrupt):
        one_start(faithful, callback=at(1, interrupt))


def test_other_threads_leave_signals_alone(faithful, legs):
    legs(50)
    found = []

    def work():
        with jax.enable_x64(True):
            found.append(one_start(faithful, callback=lambda r: found.append(handler())))

    def handler():
        return signal.getsignal(signal.SIGINT)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0] is signal.default_int_handler
    assert np.isfinite(found[-1].value)


def test_a_handler_of_ones_own_stays(faithful, legs):
    legs(7)
    mine = []
    signal.signal(signal.SIGINT, lambda *told: mine.append(told))
    try:
        one_start(faithful, callback=at(1, interrupt))
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert len(mine) == 1


LONG = """
import sys, numpy as np, otmix_jax as om
x = np.random.default_rng(0).normal(size=(20_000, 4))
def ready(report):
    if report.n_steps == max(report.n_steps, 1) and not ready.told:
        ready.told = True
        print("ready", flush=True)
ready.told = False
limits = om.Limits(tolerance=1e-30, max_steps=10**8)
solution = om.fit(x, 12, key=0, starts=om.Starts(n_init=1), solver=om.solvers.EM(), limits=limits,
                  callback=ready)
print(om.Status(int(solution.status)).name, float(solution.value), flush=True)
"""


def test_ctrl_c_from_outside():
    """A shell's: the signal comes while a compiled program runs."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", LONG], **options) as child:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=300)
    name, value = out.split()
    assert name == "INTERRUPTED"
    assert 5 < float(value) < 6
    assert "INTERRUPTED by Ctrl-C" in err
    assert child.returncode == 0


def test_quiet_by_default_and_plain_where_it_is_no_terminal(capsys, faithful, legs):
    legs(40)
    one_start(faithful)
    assert capsys.readouterr() == ("", "")
    one_start(faithful, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert not set(err) & {"\r", "\x1b", "\b"}
    lines = err.splitlines()
    assert lines[0].startswith("starts, ")
    assert lines[0].endswith("nats per row: 0 of 1 starts done")
    assert lines[-1].endswith("nats per row: 1 of 1 starts done")


class Terminal:
    """An error stream that a person looks at."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass


@pytest.mark.parametrize("there", [True, False])
def test_a_terminal_shows_a_bar_or_without_tqdm_a_line(monkeypatch, faithful, legs, there):
    legs(40)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    if there:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    one_start(faithful, progress=True)
    assert "\r" in terminal.text
    assert terminal.text.endswith("\n")
    assert ("1/1" if there else "1 of 1 starts done") in terminal.text
    assert "nats per row" in terminal.text


def test_a_notebook_is_known_by_its_stream(monkeypatch):
    """It is no terminal, and shows bars."""
    stream = type("OutStream", (), {"__module__": "ipykernel.iostream", "isatty": lambda s: False})
    monkeypatch.setattr(sys, "stderr", stream())
    pytest.importorskip("tqdm")
    assert isinstance(progress.shown(True), progress.Bar)


def test_the_status():
    status = om.Status.INTERRUPTED
    assert status.healthy
    assert "best so far" in status.remedy
    assert om.Status.MAX_STEPS < status < om.Status.STALLED < om.Status.EMPTY_COMPONENT
