"""Files: the same bytes again, and nothing that is not as it was written is read."""

import io
import json
import os
import subprocess
import sys
import zipfile

import contracts
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import otmix_jax as om
from otmix_jax.core import archive
from otmix_jax.core.registry import KNOWN, name_of
from otmix_jax.families import Gaussian, Poisson, from_log_prob
from otmix_jax.families.domains import POSITIVE


def written(thing):
    file = io.BytesIO()
    thing.save(file)
    return file.getvalue()


def read(content):
    return om.load(io.BytesIO(content))


def assert_same(one, other):
    """The same structure, static fields included, and the same bits."""
    leaves, structure = jax.tree.flatten(one)
    found, again = jax.tree.flatten(other)
    assert structure == again
    for a, b in zip(leaves, found, strict=True):
        assert isinstance(a, jax.Array) == isinstance(b, jax.Array)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def log_prob(parameters, row):
    return -row[0] / parameters - jnp.log(parameters)


def initial(x, weights):
    return weights @ x[:, 0]


OWN = from_log_prob(log_prob, initial=initial, domains=POSITIVE)


@pytest.fixture(scope="module")
def solution():
    return om.fit(om.datasets.old_faithful().x, 2, key=0)


@pytest.fixture(scope="module")
def content(solution):
    return written(solution)


@pytest.mark.parametrize("components", contracts.EXAMPLES)
def test_every_family_comes_back(components):
    k = components.n_components
    mixture = om.Mixture(jnp.log(jnp.arange(1.0, k + 1) / (k * (k + 1) / 2)), components)
    found = read(written(mixture))
    assert_same(found, mixture)
    assert written(found) == written(mixture)


def test_choices_and_batches_come_back(solution):
    described = solution.mixture.components.described()
    held = (described, solution, 272.0, -0.1, np.nan, 0.5, (1.0, float("inf")))
    choice = om.Choice((om.fitting.choices.candidate(*held),), "bic")
    found = read(written(choice))
    assert str(found) == str(choice)
    assert found.best_candidate.family == described
    assert found.best_candidate.status is om.Status.CONVERGED
    assert_same(found.best, solution)
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), solution)
    account = om.fitting.batches.StartsAccount(*(jnp.zeros((2, 1)),) * 4)
    batch = om.Batch(two, account, jnp.asarray(1.0))
    assert_same(read(written(batch)), batch)


@pytest.mark.slow
def test_answers_of_every_kind_come_back(solution, faithful):
    x = faithful[:40]
    answers = [
        solution,
        om.fit(x, 2, key=0, goal=om.Goal(learn_weights=False), starts=om.Starts(n_init=1)),
        om.fit_batch(np.stack([x, x + 1]), 2, key=0, starts=om.Starts(n_init=1)),
        om.select(x, [1, 2], covariance=["tied"], key=0),
        om.fit_variational(x, 2, key=0),
        om.npmle(x[:, :1], noise=0.3),
    ]
    for answer in answers:
        found = read(written(answer))
        assert type(found) is type(answer)
        assert written(found) == written(answer)
    # and it still works
    np.testing.assert_array_equal(read(written(answers[4])).log_prob(x), answers[4].log_prob(x))


def test_regressions_keep_their_shared_effects_and_predictions():
    family = om.families.PoissonRegression.examples()["shared"]
    mixture = om.Mixture(jnp.log(jnp.full(3, 1 / 3)), family)
    x = contracts.rows_for(family)
    np.testing.assert_array_equal(read(written(mixture)).log_prob(x), mixture.log_prob(x))


def test_extended_numbers_and_odd_values_come_back():
    leaves = {
        "bfloat16": jnp.asarray([1.5, -2.0], jnp.bfloat16),
        "host": np.asarray([[1.0], [np.nan]], np.float32),
        "scalar": np.float64(0.1),
        "empty": np.zeros((0, 3)),
        "none": None,
        "numbers": (1, True, 0.1, float("inf"), [float("-inf"), "text"]),
        "numbered": {3: np.arange(6).reshape(2, 3).T, 1: {}},
    }
    found = archive.from_bytes(archive.to_bytes(leaves))
    assert found.keys() == leaves.keys()
    assert found["bfloat16"].dtype == jnp.bfloat16
    assert type(found["scalar"]) is np.float64
    assert type(found["host"]) is np.ndarray
    assert found["numbers"] == leaves["numbers"]
    np.testing.assert_array_equal(found["numbered"][3], leaves["numbered"][3])
    assert archive.to_bytes(found) == archive.to_bytes(leaves)


def test_bytes_do_not_depend_on_the_process(content, tmp_path):
    path = tmp_path / "there.npz"
    code = f"""
import jax, sys
jax.config.update("jax_enable_x64", True)
import otmix_jax as om
om.load({str(tmp_path / "here.npz")!r}).save({str(path)!r})
"""
    (tmp_path / "here.npz").write_bytes(content)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == content


def test_numpy_opens_it_without_pickle(content, solution):
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        header = json.loads(found["header.json"])
        log_weights = found["leaf_0"]
    assert header["format"] == "otmix_jax"
    assert header["arrays"][0] == {"kind": "device", "dtype": "float64", "shape": [2]}
    np.testing.assert_array_equal(log_weights, solution.mixture.log_weights)


def test_float64_is_rounded_aloud_without_64_bits(content, tmp_path):
    path = tmp_path / "wide.npz"
    path.write_bytes(content)
    code = f"""
import warnings, otmix_jax as om
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = om.load({str(path)!r})
assert len(caught) == 1, caught
print(caught[0].message, caught[0].filename)
assert found.value.dtype == "float32"
found.save({str(tmp_path / "narrow.npz")!r})
print(repr(float(found.value)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    message, value = done.stdout.strip().splitlines()
    assert "float64" in message
    assert "rounded to float32" in message
    assert "jax_enable_x64" in message
    assert message.endswith("<string>")  # the user's line, not ours
    assert float(value) == float(np.float32(om.load(path).value))
    # what was saved in float32 is float32, here too
    assert om.load(tmp_path / "narrow.npz").value.dtype == jnp.float32


@pytest.mark.parametrize(
    ("value", "word"),
    [(np.asarray([1.0, 1e300]), "1e\\+300"), (np.asarray([2**40]), "1099511627776")],
)
def test_what_float32_cannot_hold_is_refused(value, word):
    content = archive.to_bytes({"a": jnp.asarray(value)})
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match=f"{word}.*jax_enable_x64"):
            archive.from_bytes(content)
    finally:
        jax.config.update("jax_enable_x64", True)


def test_every_truncation_is_refused(content):
    for length in [*range(0, 200), *range(200, len(content), 397), len(content) - 1]:
        with pytest.raises(ValueError, match="empty|damaged|no file of otmix_jax"):
            read(content[:length])
    with pytest.raises(ValueError, match="damaged"):
        read(content + b"\0")


def test_every_flipped_bit_is_refused():
    content = written(om.Mixture(jnp.log(jnp.full(2, 0.5)), Poisson(jnp.ones((2, 1)))))
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 1 << (place % 8)
        with pytest.raises(ValueError, match="damaged|no file of otmix_jax"):
            read(bytes(broken))


def test_foreign_files_are_refused_with_what_was_found(tmp_path):
    other = io.BytesIO()
    np.savez(other, means=np.zeros(3), extra=np.ones(2))
    for content, found in [
        (other.getvalue(), "zip or npz archive of .*means.npy"),
        (b"a,b\n1,2\n", "begins with b'a,b"),
        (b"", "is empty"),
        (b"PK\x03\x04", "damaged zip"),
    ]:
        path = tmp_path / "foreign.npz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"foreign.npz.*{found}"):
            om.load(path)


def resealed(content, change, compression=zipfile.ZIP_STORED):
    """A file with another header or members, and the right checksum."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    header = json.loads(members.pop("header.json"))
    change(header, members)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as new:
        new.writestr("header.json", json.dumps(header))
        for name, member in members.items():
            new.writestr(name, member)
        new.comment = b"0" * 64
    body = buffer.getvalue()[:-64]
    return body + archive._digest(body)


def narrower(header, members):
    header["arrays"][0]["shape"] = [3]


def array_of(dtype, shape):
    """The bytes of an array that declares so much, and holds nothing."""
    buffer = io.BytesIO()
    told = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, told)
    return buffer.getvalue()


def huge(header, members):
    header["arrays"][0]["shape"] = [10**15]
    members["leaf_0.npy"] = array_of("<f8", (10**15,))


def objects(header, members):
    header["arrays"][0]["dtype"] = "object"
    members["leaf_0.npy"] = array_of("|O", (2,))


def without(header, members):
    del members["leaf_0.npy"]


def more(header, members):
    members["leaf_99.npy"] = members["leaf_0.npy"]


def unused(header, members):
    number = len(header["arrays"])
    header["arrays"].append(header["arrays"][0])
    members[f"leaf_{number}.npy"] = members["leaf_0.npy"]


def newer(header, members):
    header.update(version=2, otmix_jax="9.0")


def other_format(header, members):
    header["format"] = "another"


def unknown_class(header, members):
    header["tree"]["object"][0] = "my_module:MyFamily"


def function(header, members):
    header["tree"]["object"][0] = "os:system"


def unknown_field(header, members):
    header["tree"]["object"][1]["more"] = 1


def missing_field(header, members):
    del header["tree"]["object"][1]["value"]


def nonsense(header, members):
    header["tree"] = {"eval": "1"}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (narrower, r"leaf_0.npy is .*\[2\].*says .*\[3\]"),
        (huge, r"declares \(1000000000000000,\) of float64, and holds 0 bytes"),
        (objects, "leaf_0.npy is object"),
        (without, "members"),
        (more, "members"),
        (unused, "1 of its arrays belong to nothing"),
        (newer, "format 2, written by otmix_jax 9.0; this is otmix_jax .* upgrade"),
        (other_format, "header says .*another"),
        (unknown_class, "my_module:MyFamily.*import my_module first"),
        (function, "os:system.*not known"),
        (unknown_field, "has no .*more"),
        (missing_field, "needs value"),
        (nonsense, "makes no sense: KeyError"),
    ],
)
def test_what_is_sealed_but_wrong_is_refused(content, change, found):
    with pytest.raises(ValueError, match=found):
        read(resealed(content, change))


def test_compressed_members_are_refused(content):
    """They could unpack to any size."""
    deflated = resealed(content, lambda header, members: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="compressed members"):
        read(deflated)


def test_resealing_itself_changes_nothing(content, solution):
    assert_same(read(resealed(content, lambda header, members: None)), solution)


def test_families_of_ones_own_come_back_by_name():
    family = OWN.initial(jnp.asarray([[1.0], [2.0], [9.0]]), jnp.full((3, 2), 1 / 6))
    mixture = om.Mixture(jnp.log(jnp.full(2, 0.5)), family)
    found = read(written(mixture))
    assert found.components.law is family.law
    assert_same(found, mixture)


def test_what_has_no_name_is_refused():
    x, plan = jnp.asarray([[1.0], [2.0], [9.0]]), jnp.full((3, 2), 1 / 6)
    nameless = from_log_prob(lambda p, row: -row[0] / p, initial=initial, domains=POSITIVE)
    mixture = om.Mixture(jnp.log(jnp.full(2, 0.5)), nameless.initial(x, plan))
    with pytest.raises(TypeError, match=r"components.law.*functions of a module, no lambdas"):
        written(mixture)
    odd = om.Mixture(jnp.log(jnp.full(1, 1.0)), object())
    with pytest.raises(TypeError, match=r"Mixture.components is of object"):
        written(odd)
    key = om.Mixture(jax.random.key(0), Poisson(jnp.ones((2, 1))))
    with pytest.raises(TypeError, match="random key"):
        written(key)
    with pytest.raises(TypeError, match="holds object"):
        archive.to_bytes({"a": np.asarray([None])})


def test_within_jit_is_refused(solution):
    def inside(one):
        one.save(io.BytesIO())
        return one

    with pytest.raises(ValueError, match="jit"):
        jax.jit(inside)(solution)


def test_a_file_appears_whole_or_stays(solution, tmp_path, monkeypatch):
    path = tmp_path / "fit.npz"
    solution.save(str(path))
    before = path.read_bytes()
    assert os.listdir(tmp_path) == ["fit.npz"]
    os.chmod(path, 0o640)
    solution.save(path)
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o640

    def broken(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="full"):
        solution.mixture.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["fit.npz"]


def test_a_link_stays_one_and_folders_are_refused(solution, tmp_path):
    target, link = tmp_path / "target.npz", tmp_path / "link.npz"
    target.write_bytes(b"old")
    link.symlink_to(target)
    solution.save(link)
    assert link.is_symlink()
    assert_same(om.load(target), solution)
    with pytest.raises(OSError, match="folder"):
        solution.save(tmp_path / "no" / "folder" / "fit.npz")
    with pytest.raises(OSError, match="nothing"):
        om.load(tmp_path / "nothing.npz")
    with pytest.raises(TypeError, match="binary mode"):
        om.load(io.StringIO("text"))


def test_status_codes_stay_what_files_say():
    """Another number for one of these is another format: raise `archive.VERSION`."""
    assert {one.name: int(one) for one in om.Status} == {
        "CONVERGED": 0,
        "MAX_STEPS": 1,
        "INTERRUPTED": 2,
        "STALLED": 3,
        "EMPTY_COMPONENT": 4,
        "COLLAPSED": 5,
        "IMPRECISE": 6,
        "NON_FINITE": 7,
    }


def test_names_in_files_are_unambiguous():
    """A room's class names stand for one class each, of those that answers hold."""
    assert KNOWN[name_of(Gaussian)] is Gaussian
    assert name_of(Gaussian) == "otmix_jax.families:Gaussian"
    assert name_of(om.Solution) == "otmix_jax.model:Solution"
