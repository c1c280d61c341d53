"""What the globals of a pickle are known to be: data, an estimator, or foreign.

The grades are for people who decide whether to open a file. The safety of the service does not depend on them: it opens
none (`shared/pickle_machine.py`).
"""

from enum import StrEnum
from typing import Final


class Grade(StrEnum):
    """What a global would do when a real unpickler calls it.

    - data: makes arrays, numbers, texts or containers from what stands in the pickle;
    - estimator: is a class of scikit-learn or Keras that fitted models consist of;
    - foreign: anything else; it may do whatever its module can.
    """

    DATA = "data"
    ESTIMATOR = "estimator"
    FOREIGN = "foreign"


# Protocols 0 to 2 name the standard library as Python 2 did.
PYTHON2_MODULES: Final = {"__builtin__": "builtins", "copy_reg": "copyreg"}

_DATA: Final = {
    "_codecs": "encode",
    "_io": "BytesIO",
    "builtins": "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple",
    "collections": "Counter OrderedDict defaultdict deque",
    "copyreg": "_reconstructor",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "joblib.numpy_pickle": "NumpyArrayWrapper",
    "numpy": (
        "bool bool_ bytes_ complex128 complex64 datetime64 dtype float16 float32 float64 int16 int32 int64 int8 "
        "ndarray object_ str_ timedelta64 uint16 uint32 uint64 uint8"
    ),
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy._core.numeric": "_frombuffer",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "numpy.ma": "MaskedArray",
    "numpy.ma.core": "MaskedArray _mareconstruct",
    "numpy.random._mt19937": "MT19937",
    "numpy.random._pcg64": "PCG64",
    "numpy.random._pickle": "__bit_generator_ctor __generator_ctor __randomstate_ctor",
    "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
    "pathlib": "PosixPath PurePosixPath PureWindowsPath WindowsPath",
    "scipy.interpolate._bsplines": "BSpline",
    "scipy.sparse._csc": "csc_array csc_matrix",
    "scipy.sparse._csr": "csr_array csr_matrix",
    "uuid": "UUID",
}

# By the first part of the module behind `sklearn.`: the parts behind that are private and move between versions.
# Public names are those of sklearn.utils.all_estimators() in scikit-learn 1.9; the others are what fitted ones hold.
_SKLEARN: Final = {
    "_loss": (
        "AbsoluteError CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss CyHalfMultinomialLoss "
        "CyHalfPoissonLoss CyHalfSquaredError CyHalfTweedieLoss CyHalfTweedieLossIdentity CyHuberLoss CyPinballLoss "
        "ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfLogitLink HalfMultinomialLoss HalfPoissonLoss "
        "HalfSquaredError HalfTweedieLoss HalfTweedieLossIdentity HuberLoss IdentityLink Interval LogLink LogitLink "
        "MultinomialLogit PinballLoss"
    ),
    "calibration": "CalibratedClassifierCV _CalibratedClassifier _SigmoidCalibration",
    "cluster": (
        "AffinityPropagation AgglomerativeClustering Birch BisectingKMeans DBSCAN FeatureAgglomeration HDBSCAN KMeans "
        "MeanShift MiniBatchKMeans OPTICS SpectralBiclustering SpectralClustering SpectralCoclustering _BisectingTree "
        "_CFNode _CFSubcluster"
    ),
    "compose": "ColumnTransformer TransformedTargetRegressor make_column_selector",
    "covariance": (
        "EllipticEnvelope EmpiricalCovariance GraphicalLasso GraphicalLassoCV LedoitWolf MinCovDet OAS ShrunkCovariance"
    ),
    "cross_decomposition": "CCA PLSCanonical PLSRegression PLSSVD",
    "decomposition": (
        "DictionaryLearning FactorAnalysis FastICA IncrementalPCA KernelPCA LatentDirichletAllocation "
        "MiniBatchDictionaryLearning MiniBatchNMF MiniBatchSparsePCA NMF PCA SparseCoder SparsePCA TruncatedSVD"
    ),
    "discriminant_analysis": "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis",
    "dummy": "DummyClassifier DummyRegressor",
    "ensemble": (
        "AdaBoostClassifier AdaBoostRegressor BaggingClassifier BaggingRegressor ExtraTreesClassifier "
        "ExtraTreesRegressor GradientBoostingClassifier GradientBoostingRegressor HistGradientBoostingClassifier "
        "HistGradientBoostingRegressor IsolationForest RandomForestClassifier RandomForestRegressor "
        "RandomTreesEmbedding StackingClassifier StackingRegressor TreePredictor VotingClassifier VotingRegressor "
        "_BinMapper"
    ),
    "feature_extraction": (
        "CountVectorizer DictVectorizer FeatureHasher HashingVectorizer PatchExtractor TfidfTransformer TfidfVectorizer"
    ),
    "feature_selection": (
        "GenericUnivariateSelect RFE RFECV SelectFdr SelectFpr SelectFromModel SelectFwe SelectKBest SelectPercentile "
        "SequentialFeatureSelector VarianceThreshold f_classif f_regression chi2"
    ),
    "frozen": "FrozenEstimator",
    "gaussian_process": (
        "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation GaussianProcessClassifier "
        "GaussianProcessRegressor Matern PairwiseKernel Product RBF RationalQuadratic Sum WhiteKernel "
        "_BinaryGaussianProcessClassifierLaplace"
    ),
    "impute": "IterativeImputer KNNImputer MissingIndicator SimpleImputer",
    "isotonic": "IsotonicRegression",
    "kernel_approximation": "AdditiveChi2Sampler Nystroem PolynomialCountSketch RBFSampler SkewedChi2Sampler",
    "kernel_ridge": "KernelRidge",
    "linear_model": (
        "ARDRegression BayesianRidge ElasticNet ElasticNetCV GammaRegressor Hinge Huber HuberRegressor Lars LarsCV "
        "Lasso LassoCV LassoLars LassoLarsCV LassoLarsIC LinearRegression Log LogisticRegression LogisticRegressionCV "
        "ModifiedHuber MultiTaskElasticNet MultiTaskElasticNetCV MultiTaskLasso MultiTaskLassoCV "
        "OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV PassiveAggressiveClassifier PassiveAggressiveRegressor "
        "Perceptron PoissonRegressor QuantileRegressor RANSACRegressor Ridge RidgeCV RidgeClassifier RidgeClassifierCV "
        "SGDClassifier SGDOneClassSVM SGDRegressor SquaredLoss TheilSenRegressor TweedieRegressor"
    ),
    "manifold": "ClassicalMDS Isomap LocallyLinearEmbedding MDS SpectralEmbedding TSNE",
    "metrics": "EuclideanDistance32 EuclideanDistance64 ManhattanDistance64 _PassthroughScorer _Scorer newObj",
    "mixture": "BayesianGaussianMixture GaussianMixture",
    "model_selection": (
        "FixedThresholdClassifier GridSearchCV GroupKFold KFold RandomizedSearchCV ShuffleSplit StratifiedKFold "
        "TimeSeriesSplit TunedThresholdClassifierCV"
    ),
    "multiclass": "OneVsOneClassifier OneVsRestClassifier OutputCodeClassifier _ConstantPredictor",
    "multioutput": "ClassifierChain MultiOutputClassifier MultiOutputRegressor RegressorChain",
    "naive_bayes": "BernoulliNB CategoricalNB ComplementNB GaussianNB MultinomialNB",
    "neighbors": (
        "BallTree BallTree64 KDTree KDTree64 KNeighborsClassifier KNeighborsRegressor KNeighborsTransformer "
        "KernelDensity LocalOutlierFactor NearestCentroid NearestNeighbors NeighborhoodComponentsAnalysis "
        "RadiusNeighborsClassifier RadiusNeighborsRegressor RadiusNeighborsTransformer newObj"
    ),
    "neural_network": "AdamOptimizer BernoulliRBM MLPClassifier MLPRegressor SGDOptimizer",
    "pipeline": "FeatureUnion Pipeline",
    "preprocessing": (
        "Binarizer FunctionTransformer KBinsDiscretizer KernelCenterer LabelBinarizer LabelEncoder MaxAbsScaler "
        "MinMaxScaler MultiLabelBinarizer Normalizer OneHotEncoder OrdinalEncoder PolynomialFeatures PowerTransformer "
        "QuantileTransformer RobustScaler SplineTransformer StandardScaler TargetEncoder"
    ),
    "random_projection": "GaussianRandomProjection SparseRandomProjection",
    "semi_supervised": "LabelPropagation LabelSpreading SelfTrainingClassifier",
    "svm": "LinearSVC LinearSVR NuSVC NuSVR OneClassSVM SVC SVR",
    "tree": "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor Tree",
    "utils": "Bunch",
}
_KERAS: Final = {
    "keras.src.callbacks.history": "History",
    "keras.src.models.functional": "Functional",
    "keras.src.models.model": "Model",
    "keras.src.models.sequential": "Sequential",
}
_DATA_NAMES: Final = {(module, name) for module, names in _DATA.items() for name in names.split()}
_SKLEARN_NAMES: Final = {(part, name) for part, names in _SKLEARN.items() for name in names.split()}
_KERAS_NAMES: Final = {(module, name) for module, names in _KERAS.items() for name in names.split()}


def grade(module: str, name: str) -> Grade:
    """Say what a global is known to be; exact names only, so that nothing reached through them is known.

    Args:
        module: As the pickle names it, or as Python 2 did.
        name: One with a dot is foreign: it reaches through a class or a module to something else (research/models.md,
            E6: `sklearn.datasets._base`, `os.system`).
    """
    module = PYTHON2_MODULES.get(module, module)
    if (module, name) in _DATA_NAMES:
        return Grade.DATA
    if (module, name) in _KERAS_NAMES or (sklearn_part(module), name) in _SKLEARN_NAMES:
        return Grade.ESTIMATOR
    return Grade.FOREIGN


def sklearn_part(module: str) -> str | None:
    """Return the first part of a module behind `sklearn.`, such as preprocessing; None for other modules."""
    root, *parts = module.split(".")
    return parts[0] if root == "sklearn" and parts else None
