"""Everything a training run is made of, as one config. Imports neither torch nor numba."""

from typing import Literal

from pydantic import Field, model_validator

from memexp.config import Config, Count, RunName, UsageError
from memexp.cortex.config import CortexConfig
from memexp.curriculum.config import CurriculumConfig
from memexp.envs.config import GRID_GAMES, EnvConfig, TMaze
from memexp.envs.suites import suite
from memexp.policy.config import PolicyConfig


class TrainerConfig(Config):
    """Recurrent PPO (Schulman et al. 2017, arXiv:1707.06347) on rollouts of whole segments."""

    total_timesteps: Count = Field(default=1_000_000, gt=0)
    """Agent steps over all ranks; the run ends after the update that reaches it."""
    num_envs: Count = Field(default=64, gt=0)
    """Worlds over all ranks."""
    horizon: int = Field(default=64, gt=0)
    """Agent steps of one segment: the rollout's length, and the reach of backpropagation through time."""
    num_minibatches: int = Field(default=4, gt=0)
    """Each minibatch holds whole segments of total agents / num_minibatches agents."""
    update_epochs: int = Field(default=2, gt=0)
    """Passes over each rollout."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Adam step size at the start."""
    learning_rate_end: float = Field(default=0.1, ge=0)
    """Share of the step size that is left at the end (linear schedule)."""
    warmup_updates: int = Field(default=0, ge=0)
    """Updates over which the step size rises from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW decay."""
    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount a step."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438)."""
    clip: float = Field(default=0.2, gt=0)
    """Range of the importance ratio around 1."""
    target_kl: float | None = Field(default=None, gt=0)
    """The update ends before a minibatch whose approximate KL divergence from the acting policy exceeds this; None:
    never early."""
    value_clip: float | None = Field(default=None, gt=0)
    """Range of the value around the old one; None: not clipped."""
    advantage_clip: float | None = Field(default=None, gt=0)
    """Range of the normalised advantage, standard deviations; None: not clipped. Once a task is solved the spread is
    tiny, and a single mistake would otherwise weigh a hundred of them and throw the policy off."""
    entropy_coefficient: float = Field(default=0.01, ge=0)
    """Weight of the entropy bonus."""
    value_coefficient: float = Field(default=0.5, ge=0)
    """Weight of the value loss."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Global gradient norm is clipped here."""
    grad_norm_growth: float | None = Field(default=None, gt=1)
    """Global gradient norm is also clipped at this multiple of its usual size; None: not. A task that is solved leaves
    hardly any gradients, and Adam would follow the next large one so far that the policy is lost. Where rewards are
    rare, theirs are such gradients."""
    device: str = "auto"
    """"auto" takes a GPU where there is one; else "cpu", "cuda", "cuda:1"."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 autocasts both passes."""
    graph: bool = False
    """On a GPU: replay each step of acting (policy, sampling, worlds), and the passes of each minibatch, as CUDA
    graphs. On a CPU nothing changes."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of this process; 0 leaves the choice to torch."""
    checkpoint_minutes: float = Field(default=5.0, ge=0)
    """Wall minutes between checkpoints; 0: one after every update. None is begun while one is still being written."""
    preemption_seconds: float = Field(default=30.0, ge=0)
    """Seconds between SIGTERM and the machine's end (30 on Google Cloud and Azure, 120 on AWS). Where an update and a
    checkpoint may take longer, there is a checkpoint after every update, and SIGTERM gives up the one under way."""
    rank_timeout_seconds: float = Field(default=600.0, gt=0)
    """Several ranks: seconds, beyond what the longest update took, after which a rank that keeps the others waiting
    counts as hung: the run stops, to be restarted."""
    exit_seconds: float = Field(default=600.0, ge=0)
    """Seconds that a finished run waits for the disk to take what is not written yet."""
    profile: int = Field(default=0, ge=0)
    """Updates, from the third of the process on, whose traces and time split are written to the run's directory
    `profile/` (docs/performance.md); 0: none."""

    def worlds_of(self, ranks: int) -> int:
        """Worlds of one rank. Raises UsageError where that, or a minibatch's share of it, is no whole number."""
        share, rest = divmod(self.num_envs, ranks)
        if rest or share % self.num_minibatches:
            most = self.num_envs // self.num_minibatches
            sizes = ", ".join(str(size) for size in range(1, most + 1) if most % size == 0)
            raise UsageError(
                f"trainer.num_envs={self.num_envs} does not give {ranks} ranks x trainer.num_minibatches="
                f"{self.num_minibatches} equal shares; numbers of ranks that it does: {sizes}"
            )
        return share


class EvaluationConfig(Config):
    """Evaluation on held-out tasks, with the acting policy."""

    episodes: int = Field(default=0, ge=0)
    """Episodes of one evaluation; 0 evaluates never."""
    every: Count = Field(default=0, ge=0)
    """Agent steps between evaluations; 0: only at the end."""
    suite_episodes: int = Field(default=0, ge=0)
    """Episodes of every setting of the environment's suite (envs/suites.py) in one evaluation; 0: none."""
    reference_episodes: int = Field(default=0, ge=0)
    """Episodes that each scripted player's return is measured on, once for the environment and its knobs, before the
    first update: the levels that returns are normalised with; 0: not measured."""
    random_episodes: int = Field(default=200, ge=0)
    """Episodes that the uniformly random policy's return is measured on, once, before the first update."""


class WandbConfig(Config):
    """Weights & Biases as a second sink."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """"auto": online where WANDB_API_KEY is set, else offline (`wandb sync` sends it later)."""
    project: str | None = None
    entity: str | None = None


class Labels(Config):
    """Where the run stands in a matrix: what the answer groups by."""

    matrix: str | None = None
    env: str | None = None
    """Environment's name in the matrix; None: the environment's own."""
    arm: str | None = None
    """Architecture's name in the matrix ("~" at its end marks the twin); None: the pattern."""
    hardware: str | None = None
    price_per_hour: float | None = Field(default=None, ge=0)
    """Dollars per hour of the machine."""


RESUMABLE = (
    "trainer.device", "trainer.threads", "trainer.checkpoint_minutes", "trainer.preemption_seconds",
    "trainer.rank_timeout_seconds", "trainer.exit_seconds", "trainer.profile", "trainer.graph", "cortex.compile",
    "labels", "wandb", "recipe", "env.backend", "env.workers",
)  # fmt: skip
"""Keys of TrainConfig that may change when a run is resumed: they do not change the experiment."""


class TrainConfig(Config):
    """One training run. Recipes return it; dotted keys of the command line reach into it."""

    run: RunName | None = None
    """The run's name, which is its identity: a name that exists is resumed."""
    recipe: str | None = None
    """Dotted name of the recipe that it came from; filled in by the command line."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    env: EnvConfig = TMaze()
    curriculum: CurriculumConfig = CurriculumConfig()
    cortex: CortexConfig = CortexConfig()
    policy: PolicyConfig = PolicyConfig()
    trainer: TrainerConfig = TrainerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    wandb: WandbConfig = WandbConfig()
    labels: Labels = Labels()

    @property
    def arm(self) -> str:
        """The arm's name in the answer: the label, else pattern and memory."""
        if self.labels.arm:
            return self.labels.arm
        pattern = self.cortex.pattern if isinstance(self.cortex.pattern, str) else "-".join(self.cortex.pattern)
        window = f"_memlen{self.cortex.mem_len}" if "X" in pattern else ""
        return pattern + window + ("~" if self.cortex.memory == "off" else "")

    @model_validator(mode="after")
    def _sizes_fit(self) -> "TrainConfig":
        if self.trainer.num_envs % self.trainer.num_minibatches:
            sizes = f"num_minibatches={self.trainer.num_minibatches} does not divide num_envs={self.trainer.num_envs}"
            raise ValueError(f"trainer.{sizes}")
        return self

    @model_validator(mode="after")
    def _the_curriculum_has_tasks(self) -> "TrainConfig":
        if self.curriculum.kind != "uniform" and self.env.name not in GRID_GAMES:
            raise ValueError(
                f"curriculum.kind={self.curriculum.kind} needs an environment with tasks ({', '.join(GRID_GAMES)}), "
                f"which {self.env.name} is not"
            )
        return self

    @model_validator(mode="after")
    def _the_suite_fits_the_knobs(self) -> "TrainConfig":
        if self.evaluation.suite_episodes:
            try:
                suite(self.env)
            except UsageError as error:
                raise ValueError(f"evaluation.suite_episodes: {error}") from None
        return self
