"""Conversions: asked for once, taken in when a report is there, and nothing believed that was not read back."""

import json

import pytest

from shared.conversions import PATIENCE_S, ConversionService
from shared.errors import ModelUnavailableError
from shared.models import Choice, ModelService
from shared.records.objects import conversions_prefix, models_prefix
from shared.records.training import Conversion, ConversionStatus
from tests.factories import a_caller
from tests.fakes.conversions import InMemoryConversions
from tests.training_factories import TrainingBench, a_keras_archive, a_table
from tests.unit.test_models import a_keras_manifest, publish_manifest, save

H5 = b"\x89HDF\r\n\x1a\n" + bytes(100)


class Jobs:
    def __init__(self):
        self.bodies = {}

    def enqueue(self, name, body):
        self.bodies.setdefault(name, body)


class Bench:
    """A session with one published network, and the hands of the converter."""

    def __init__(self):
        self.training = TrainingBench()
        self.session = self.training.a_session(a_table())
        layer = {"class_name": "Bidirectional", "config": {}}
        document = a_keras_manifest(self.training, self.session, "keras", a_keras_archive(layer))
        publish_manifest(self.training.artifacts, document | {"models": document["models"][:1]})
        (self.model,) = save(self.training)
        self.store, self.jobs = self.training.artifacts, Jobs()
        self.service = self.models()

    def models(self):
        conversions = ConversionService(
            InMemoryConversions(self.training.runs), self.store, self.training.signer, self.jobs
        )
        return ModelService(self.training.runs, self.training.signer, converting=conversions)

    def ask(self, form="h5"):
        return self.service.download(a_caller(), "weather", Choice(framework="keras", form=form))

    def listed(self):
        return self.service.of_session(a_caller(), "weather")[0].model

    def report(self, status="converted", content=H5, raw=None, attempt=1, **members):
        """Do what the converter does, by the addresses of the job alone."""
        job = self.jobs.bodies[f"{self.model.id}-h5-{attempt}"]
        if content is not None:
            assert self.training.signer.send("PUT", job["target"]["url"], job["target"]["headers"], content)[0] == 200
        body = raw if raw is not None else json.dumps({"status": status, **members}).encode()
        assert self.training.signer.send("PUT", job["report"]["url"], job["report"]["headers"], body)[0] == 200

    def left(self):
        return self.store.list(conversions_prefix(self.session))


def test_a_file_is_asked_for_once_and_handed_out_when_it_was_read_back():
    bench = Bench()
    assert bench.ask().status is ConversionStatus.PENDING
    assert bench.ask() == bench.ask()
    assert list(bench.jobs.bodies) == [f"{bench.model.id}-h5-1"]
    assert bench.ask("keras").url
    bench.report()
    assert bench.ask().url.startswith(f"memory:{models_prefix(bench.session)}{bench.model.id}.1.h5")
    model = bench.listed()
    assert (model.conversion.status, [file.format for file in model.files]) == (ConversionStatus.READY, ["keras", "h5"])
    assert bench.store.content(model.files[1].object_name) == H5
    assert bench.left() == []
    assert bench.ask().url


def test_a_list_takes_in_what_has_ended():
    bench = Bench()
    bench.ask()
    assert bench.listed().conversion.status is ConversionStatus.PENDING
    bench.report()
    assert bench.listed().conversion.status is ConversionStatus.READY


@pytest.mark.parametrize("status", ["refused", "unsupported"])
def test_why_there_is_no_file_is_told(status):
    bench = Bench()
    bench.ask()
    finding = {"code": "lambda", "message": "Code\0.", "where": "config"}
    bench.report(status, None, detail="Because.", finding=finding)
    with pytest.raises(ModelUnavailableError) as refused:
        bench.ask()
    details = refused.value.details
    assert (details["conversion"], details["reason"], details["available"]) == (status, "Because.", ["keras"])
    assert details["finding"]["message"] == "Code\N{SYMBOL FOR NULL}."
    assert bench.left() == []
    assert len(bench.jobs.bodies) == 1


@pytest.mark.parametrize(
    ("content", "raw"),
    [
        (b"\x80\x04pickle", None),
        (None, b"nothing"),
        (None, b"[" * 60_000),
        (None, b'{"status": "owned"}'),
        (None, b'{"status": "refused", "finding": 5}'),
        (None, b"[]"),
    ],
)
def test_a_converter_that_was_taken_over_is_not_believed(content, raw):
    bench = Bench()
    bench.ask()
    bench.report(content=content, raw=raw)
    with pytest.raises(ModelUnavailableError):
        bench.ask()
    assert [file.format for file in bench.listed().files] == ["keras"]


def test_a_report_without_its_file_changes_nothing():
    bench = Bench()
    bench.ask()
    bench.report(content=None)
    assert bench.ask().status is ConversionStatus.PENDING


def test_what_is_not_heard_of_is_tried_three_times():
    bench = Bench()
    for attempt in range(1, 4):
        assert bench.ask() == Conversion(ConversionStatus.PENDING, attempt)
        bench.training.database.advance(seconds=PATIENCE_S + 1)
    with pytest.raises(ModelUnavailableError, match="three times"):
        bench.ask()
    assert len(bench.jobs.bodies) == 3


def test_killed_before_it_was_recorded_and_repeated_it_ends_the_same(monkeypatch):
    bench = Bench()
    bench.ask()
    bench.report()
    finish = InMemoryConversions.finish

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(InMemoryConversions, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        bench.ask()
    monkeypatch.setattr(InMemoryConversions, "finish", finish)
    assert bench.ask().url
    assert len(bench.store.list(models_prefix(bench.session))) == 1
