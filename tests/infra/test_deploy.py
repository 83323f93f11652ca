"""``make deploy``, ``destroy``, ``smoke``: what is missing is a sentence, what is there is called as it should be."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra import deploy, smoke
from infra.app import ROOT, layer_names
from infra.config import Config, load_stage

ELF = b"\x7fELF" + bytes(14)


def built(root: Path, machine: int = deploy.MACHINES["arm64"]) -> None:
    """Layers as `make layers` leaves them, one library in each."""
    for name in layer_names():
        if name != "heavylift":
            folder = root / "build" / "layers" / name / "python"
            folder.mkdir(parents=True)
            (folder / "module.so").write_bytes(ELF + machine.to_bytes(2, "little"))
            (folder / "text.so.txt").write_text("no library")


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have been run, in a repository with an installed command line."""
    program = tmp_path / "infra" / "node_modules" / "aws-cdk" / "bin" / "cdk"
    program.parent.mkdir(parents=True)
    program.write_text("")
    calls: list[list[str]] = []

    def run(command: list[str], **told: Any) -> subprocess.CompletedProcess[str]:
        calls.append([str(word) for word in command])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(deploy.subprocess, "run", run)
    monkeypatch.setattr(deploy, "choose_node", lambda environment: "/node")
    return calls


def test_without_layers_it_stops_with_a_sentence(
    tmp_path: Path, ran: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is asked of AWS; the command that helps is named."""
    assert deploy.main(["deploy"], tmp_path) == 1
    told = capsys.readouterr().err
    assert told.startswith("deploy: layers ")
    assert "run `make layers` first" in told
    assert ran == []


def test_layers_for_another_machine_are_refused(tmp_path: Path) -> None:
    """A function would start, and then find no library."""
    built(tmp_path)
    deploy.check_layers(tmp_path, Config())
    with pytest.raises(deploy.NotReady, match=r"another machine than x86_64; run `make layers ARCHITECTURE=x86_64`"):
        deploy.check_layers(tmp_path, Config(architecture="x86_64"))


def test_an_account_is_made_ready_without_layers(tmp_path: Path, ran: list[list[str]]) -> None:
    """Bootstrapping asks for nothing that is built; the stage says for which regions."""
    assert deploy.main(["bootstrap"], tmp_path) == 0
    ((_, _, *told),) = ran
    assert told == ["bootstrap", "-c", "heavylift:stage=default"]


def test_examples_are_not_deployed(tmp_path: Path, ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    """The hardened stage's addresses can never exist."""
    built(tmp_path)
    assert deploy.main(["deploy", "--stage", "hardened"], tmp_path) == 1
    assert "end on .invalid" in capsys.readouterr().err
    assert ran == []


def test_a_deployment_is_all_stacks_strictly(tmp_path: Path, ran: list[list[str]]) -> None:
    """The pinned command line under the Node that is new enough, the stage by its name, outputs where smoke looks."""
    built(tmp_path)
    assert deploy.main(["deploy"], tmp_path) == 0
    ((node, program, *told),) = ran

    assert node == "/node"
    assert program == str(tmp_path / "infra" / "node_modules" / "aws-cdk" / "bin" / "cdk")
    assert told[:3] == ["deploy", "--all", "--strict"]
    assert told[told.index("-c") + 1] == "heavylift:stage=default"
    assert told[told.index("--outputs-file") + 1] == str(tmp_path / "build" / "outputs" / "default.json")


def test_the_command_line_is_installed_where_it_is_not(
    tmp_path: Path, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By npm and the committed lock, whose digests are checked; without npm the sentence says so."""
    built(tmp_path)
    (tmp_path / "infra" / "node_modules" / "aws-cdk" / "bin" / "cdk").unlink()
    monkeypatch.setattr(deploy, "npm_of", lambda node: ["/npm"])
    assert deploy.main(["deploy"], tmp_path) == 0
    assert ran[0][:4] == ["/npm", "ci", "--prefix", str(tmp_path / "infra")]
    monkeypatch.setattr(deploy, "npm_of", lambda node: None)
    assert deploy.main(["deploy"], tmp_path) == 1


def test_destroying_leaves_people_and_data(
    tmp_path: Path, ran: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the storage nor the front stack is named; layers are not asked for."""
    assert deploy.main(["destroy"], tmp_path) == 0
    (command,) = ran
    names = [word for word in command if word.startswith("heavylift-")]

    assert set(names) == {f"heavylift-{name}" for name in deploy.DESTROYED}
    assert not {"heavylift-storage", "heavylift-front"} & set(command)
    assert "stay: they hold people and data" in capsys.readouterr().err


def test_the_npm_lock_pins_by_digest_and_names_no_registry() -> None:
    """One version, its digest, no address."""
    lock = json.loads((ROOT / "infra" / "package-lock.json").read_text())
    wanted = json.loads((ROOT / "infra" / "package.json").read_text())["devDependencies"]["aws-cdk"]
    package = lock["packages"]["node_modules/aws-cdk"]

    assert package["version"] == wanted
    assert package["integrity"].startswith("sha512-")
    assert "resolved" not in json.dumps(lock)


def test_every_command_of_the_documentation_is_there() -> None:
    """Each make target that deploying and operations speak of is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    for target in ("synth", "layers", "bootstrap", "deploy", "destroy", "smoke"):
        assert f"\n{target}:" in makefile
        assert (
            f"make {target}"
            in (ROOT / "docs" / "deploying.md").read_text() + (ROOT / "docs" / "operations.md").read_text()
        )


# --- smoke


class Cognito:
    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer, self.asked = answer, {}

    def admin_initiate_auth(self, **told: Any) -> dict[str, Any]:
        self.asked = told
        return self.answer


@pytest.fixture
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Outputs as `cdk deploy --outputs-file` leaves them."""
    for name in ("HEAVYLIFT_TOKEN", "HEAVYLIFT_USER", "HEAVYLIFT_PASSWORD"):
        monkeypatch.setenv(name, "")
    path = deploy.outputs_file(tmp_path, "default")
    path.parent.mkdir(parents=True)
    front = {"ApiUrl": "https://api.example", "UserPoolId": "pool", "OperatorClientId": "client"}
    path.write_text(json.dumps({"heavylift-front": front}))
    return tmp_path


def test_smoke_signs_in_and_runs_the_demo(deployed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the user that was named, at the address that the deployment left; files of one's own are passed on."""
    monkeypatch.setenv("HEAVYLIFT_USER", "a@b.example")
    monkeypatch.setenv("HEAVYLIFT_PASSWORD", "p")
    cognito, told = Cognito({"AuthenticationResult": {"AccessToken": "token"}}), []

    def run(arguments: Any) -> int:
        told.append((list(arguments), smoke.os.environ["HEAVYLIFT_TOKEN"]))
        return 0

    assert smoke.main(["x.png"], deployed, run, lambda: cognito) == 0
    assert told == [(["--api", "https://api.example", "x.png"], "token")]
    assert cognito.asked["AuthFlow"] == "ADMIN_USER_PASSWORD_AUTH"


@pytest.mark.parametrize(
    ("outputs", "environment", "answer", "words"),
    [
        (False, {}, {}, "tells of no deployment"),
        (True, {}, {}, "HEAVYLIFT_USER and HEAVYLIFT_PASSWORD"),
        (
            True,
            {"HEAVYLIFT_USER": "u", "HEAVYLIFT_PASSWORD": "p"},
            {"ChallengeName": "SOFTWARE_TOKEN_MFA"},
            "SOFTWARE_TOKEN_MFA",
        ),
    ],
)
def test_smoke_says_what_is_missing(
    deployed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outputs: bool,
    environment: dict[str, str],
    answer: dict[str, Any],
    words: str,
) -> None:
    """No deployment, no user, a second factor: each is a sentence."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if not outputs:
        deploy.outputs_file(deployed, "default").unlink()

    assert smoke.main([], deployed, lambda arguments: 0, lambda: Cognito(answer)) == 1
    assert words in capsys.readouterr().err


def test_a_token_of_ones_own_goes_first(deployed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another issuer there is nobody else to ask."""
    monkeypatch.setenv("HEAVYLIFT_TOKEN", "mine")
    assert smoke.token_of({}, smoke.os.environ, lambda: pytest.fail("asked Cognito")) == "mine"
    with pytest.raises(smoke.NotReady, match="HEAVYLIFT_TOKEN"):
        smoke.token_of({"ApiUrl": "x"}, {}, lambda: None)


def test_the_demo_runs_against_a_system_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token it says so; it starts no stack of its own."""
    from heavylift_local import demo

    monkeypatch.setattr(demo, "running_stack", lambda: pytest.fail("started a stack"))
    monkeypatch.delenv("HEAVYLIFT_TOKEN", raising=False)
    (tmp_path / "x.txt").write_text("x")
    assert demo.main(["--api", "https://api.example", "--out", str(tmp_path / "out"), str(tmp_path / "x.txt")]) == 2
    assert load_stage("default").deployment == "heavylift"
