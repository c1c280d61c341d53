"""Real objects of scikit-learn, fitted on a few rows, and the pickles of them."""

import io
import pickle
import warnings
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler
from sklearn.svm import SVC

N_ROWS = 24
ROWS = np.random.default_rng(7).normal(3, 2, size=(N_ROWS, 3))
NUMBERS = ROWS @ np.array([1.0, -2.0, 0.5])
CLASSES = np.array(["low", "high"])[(NUMBERS > 0).astype(int)]
NAMED = pd.DataFrame(ROWS, columns=["depth", "flow", "Höhe"])


def fitted_objects() -> dict[str, Any]:
    """Fit one object of each kind that pickles differently; all of it takes about a second."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "standard scaler": StandardScaler().fit(NAMED),
            "minmax scaler": MinMaxScaler((-1, 1)).fit(ROWS),
            "robust scaler": RobustScaler().fit(ROWS),
            "maxabs scaler": MaxAbsScaler().fit(ROWS),
            "linear regression": LinearRegression().fit(ROWS, NUMBERS),
            "logistic regression": LogisticRegression().fit(ROWS, CLASSES),
            "forest": RandomForestRegressor(3, max_depth=3, random_state=1).fit(ROWS, NUMBERS),
            "boosting": GradientBoostingRegressor(n_estimators=2, random_state=1).fit(ROWS, NUMBERS),
            "histograms": HistGradientBoostingClassifier(max_iter=2).fit(ROWS, CLASSES),
            "support vectors": SVC().fit(ROWS, CLASSES),
            "neighbours": KNeighborsRegressor(algorithm="kd_tree").fit(ROWS, NUMBERS),
            "network": MLPClassifier((4,), max_iter=3, random_state=1).fit(ROWS, CLASSES),
            "gaussian process": GaussianProcessRegressor(random_state=1).fit(ROWS, NUMBERS),
            "clusters": KMeans(2, n_init=1, random_state=1).fit(ROWS),
            "pipeline": make_pipeline(StandardScaler(), LinearRegression()).fit(ROWS, NUMBERS),
            "columns": make_column_transformer((MinMaxScaler(), ["depth"]), (OneHotEncoder(), ["flow"])).fit(NAMED),
            "search": GridSearchCV(LinearRegression(), {"fit_intercept": [True, False]}, cv=2).fit(ROWS, NUMBERS),
            "two scalers": {"inputs": StandardScaler().fit(ROWS), "target": MinMaxScaler().fit(ROWS[:, :1])},
        }


def written(value: Any, protocol: int) -> bytes:
    """Pickle a value; protocol 6 stands for joblib."""
    if protocol < 6:
        return pickle.dumps(value, protocol)
    file = io.BytesIO()
    joblib.dump(value, file)
    return file.getvalue()


ALL_PROTOCOLS = range(7)
