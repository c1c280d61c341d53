"""The formulas of scalers mean the same in JavaScript: evaluated by node, both directions, against scikit-learn."""

import json
import pickle
import shutil
import subprocess

import numpy as np
import pytest
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from dev.home import STACK_ENVIRONMENT
from shared.pickles import read_pickle
from tests.pickled_models import ROWS

# What a page needs: ten lines, and nothing of a library.
PROGRAM = """
const {formula, inverse, params, rows} = JSON.parse(require("fs").readFileSync(0, "utf8"));
const clip = (x, low, high) => Math.min(Math.max(x, low), high);
const evaluate = (text, row) => row.map((x, feature) => {
  const names = Object.keys(params).filter((name) => text.match(`\\\\b${name}\\\\b`));
  const values = names.map((name) => name === "feature_range" ? params[name] : params[name][feature]);
  return new Function("x", "clip", ...names, `return ${text}`)(x, clip, ...values);
});
const there = rows.map((row) => evaluate(formula, row));
console.log(JSON.stringify({there, back: there.map((row) => evaluate(inverse, row))}));
"""
NODE = shutil.which("node") or str(STACK_ENVIRONMENT / "bin/node")


def evaluated(description, rows) -> dict:
    document = {
        "formula": description.formula,
        "inverse": description.inverse,
        "params": dict(description.params),
        "rows": rows.tolist(),
    }
    answer = subprocess.run(
        [NODE, "-e", PROGRAM], input=json.dumps(document), capture_output=True, text=True, check=True
    )
    return json.loads(answer.stdout)


@pytest.mark.parametrize(
    "scaler",
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        MinMaxScaler((-1, 1)),
        MinMaxScaler(clip=True),
        RobustScaler(),
        RobustScaler(with_centering=False),
        MaxAbsScaler(),
    ],
    ids=repr,
)
def test_a_formula_gives_in_javascript_what_the_scaler_gives_in_python(scaler):
    fitted = scaler.fit(ROWS)
    (description,) = read_pickle(pickle.dumps(fitted)).scalers
    # Some of them beyond what was fitted, where it makes a difference whether it clips.
    rows = np.vstack([ROWS[:5], ROWS[:2] * 10])
    found = evaluated(description, rows)
    wanted = fitted.transform(rows)
    assert np.allclose(found["there"], wanted, rtol=1e-12, atol=1e-12)
    assert np.allclose(found["back"], fitted.inverse_transform(wanted), rtol=1e-12, atol=1e-12)
