"""The config of a training run. Imports neither torch nor numba."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from memexp.config import Config, Count, RunName, UsageError, check_levels, did_you_mean
from memexp.cortex.config import CortexConfig
from memexp.curriculum.config import CurriculumConfig
from memexp.envs.config import GRID_GAMES, EnvConfig, TMaze
from memexp.envs.suites import suite
from memexp.pattern import ATTENTION, tokens_in
from memexp.policy.config import PolicyConfig

Steps = Annotated[Count, Field(gt=0, le=10**15)]
"""Agent steps of a run."""


class TrainerConfig(Config):
    """Recurrent PPO (Schulman et al. 2017, arXiv:1707.06347) on whole segments."""

    total_timesteps: Steps = 1_000_000
    """Agent steps over all ranks. The run ends after the update that reaches them."""
    num_envs: Count = Field(default=64, gt=0, le=1_000_000)
    """Environments over all ranks."""
    horizon: int = Field(default=64, gt=0, le=1_000_000)
    """Steps of one rollout, and of backpropagation through time."""
    num_minibatches: int = Field(default=4, gt=0)
    """Minibatches of an epoch. Each holds whole segments of 1 / num_minibatches of all agents."""
    update_epochs: int = Field(default=2, gt=0)
    """Passes over each rollout."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """AdamW's step size at the start."""
    learning_rate_end: float = Field(default=0.1, ge=0)
    """Step size at the end, as a share of learning_rate; it changes linearly."""
    warmup_updates: int = Field(default=0, ge=0)
    """Updates over which the step size rises linearly from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's weight decay."""
    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount factor of a step."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438)."""
    clip: float = Field(default=0.2, gt=0)
    """Clip range of the importance ratio: 1 - clip to 1 + clip."""
    target_kl: float | None = Field(default=None, gt=0)
    """The update ends before the first minibatch whose approximate KL divergence from the acting policy is larger.
    None: it never ends early."""
    value_clip: float | None = Field(default=None, gt=0)
    """Largest change of a value in the clipped value loss. None: the value loss is not clipped."""
    advantage_clip: float | None = Field(default=None, gt=0)
    """Largest normalised advantage, in standard deviations. None: not clipped. When a task is solved the standard
    deviation is tiny; a single mistake would then weigh a hundred of them and ruin the policy."""
    entropy_coefficient: float = Field(default=0.01, ge=0)
    """Weight of the entropy bonus."""
    value_coefficient: float = Field(default=0.5, ge=0)
    """Weight of the value loss."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradients of all parameters."""
    grad_norm_growth: float | None = Field(default=None, gt=1)
    """The gradient norm is also clipped at this multiple of its usual size. None: it is not. A solved task leaves
    hardly any gradients, and Adam would follow the next large one so far that the policy is lost. But if rewards are
    rare, the large gradients are the ones to learn from."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of acting and learning; bf16 means autocast."""
    graph: bool = False
    """On a GPU: replay each step of acting (policy, sampling, environment) and both passes of each minibatch as CUDA
    graphs. On a CPU nothing changes."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of this process; 0: torch decides."""
    checkpoint_minutes: float = Field(default=5.0, ge=0)
    """Minutes between checkpoints; 0: one after every update, unless one is still being written."""
    preemption_seconds: float = Field(default=30.0, ge=0)
    """Seconds between SIGTERM and the end of the machine (30 on Google Cloud and Azure, 120 on AWS). If an update and a
    checkpoint may take longer, a checkpoint follows every update, and SIGTERM stops an update at once. After its last
    checkpoint, a run waits for its loggers, at most 60 s (docs/monitor.md)."""
    rank_timeout_seconds: float = Field(default=600.0, gt=0)
    """With several ranks: how many seconds longer than the longest update the others wait for a rank. Then it counts as
    hung, and the run stops to be restarted."""
    exit_seconds: float = Field(default=600.0, ge=0)
    """Seconds that a finished run waits for the disk."""
    profile: int = Field(default=0, ge=0)
    """Updates to profile, from the third of the process on, into `profile/` of the run (docs/performance.md)."""

    def envs_per_rank(self, ranks: int) -> int:
        """Environments of one rank. Raises UsageError if ranks or minibatches cannot have equal shares."""
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
    """Evaluation of the acting policy on held-out tasks."""

    episodes: int = Field(default=0, ge=0)
    """Episodes of an evaluation; 0: none."""
    every: Count = Field(default=0, ge=0)
    """Agent steps between evaluations; 0: only one, at the end."""
    suite_episodes: int = Field(default=0, ge=0)
    """Episodes of each setting of the environment's suite (envs/suites.py) in an evaluation; 0: none."""
    reference_episodes: int = Field(default=0, ge=0)
    """Episodes of each scripted policy, whose returns are the levels to normalise with. They are measured once for an
    environment and its knobs, before the first update. 0: not measured."""
    random_episodes: int = Field(default=200, ge=0)
    """Episodes of the uniformly random policy, measured once, before the first update."""
    horizon_episodes: int = Field(default=200, ge=0)
    """Episodes for each length that the memory is cut to at the end of the run; fewer if they would cost more than 5 %
    of the training. 0: not measured."""


Logger = Literal["wandb", "tensorboard", "csv", "mlflow"]


def _check_loggers(value: Any) -> Any:
    """A single name as a list of one. Raises ValueError for an unknown name, and for one that stands there twice."""
    names = [value] if isinstance(value, str) else value
    for place, name in enumerate(names if isinstance(names, list) else ()):
        if name not in get_args(Logger):
            raise ValueError(f"'{name}' is no logger{did_you_mean(str(name), get_args(Logger))}")
        if name in names[:place]:
            raise ValueError(f"'{name}' stands there twice")
    return names


Loggers = Annotated[list[Logger], BeforeValidator(_check_loggers)]
"""Where metrics go beside metrics.jsonl."""


class WandbConfig(Config):
    """Weights & Biases, if it is one of the `loggers`."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: WANDB_MODE, else online if WANDB_API_KEY is set, else offline (docs/monitor.md says how to upload it)."""
    project: str | None = None
    """Project at W&B; None: memexp."""
    entity: str | None = None
    """User or team at W&B; None: your default."""


STATED = {"ceiling_return", "solved_return", "partner", "memory_span"}
"""What the user may say about a task beside the recipe, by its name in a matrix file, in `labels` and in run.json."""


class Labels(Config):
    """The run's place in a matrix, by which the answer groups runs."""

    matrix: str | None = None
    """The matrix's name; None: the run belongs to none."""
    env: str | None = None
    """The environment's name in the matrix; None: its own."""
    arm: str | None = None
    """The architecture's name in the matrix, with "~" at its end for the twin; None: the pattern."""
    twin_of: str | None = None
    """The architecture of which this one is a twin of one's own: a control without memory."""
    metric: str = "return"
    """What is judged: the return, or the name of a number in the `info` of an episode's last step, such as success."""
    hardware: str | None = None
    """The machine, as tables of steps/s name it; None: what the run finds."""
    price_per_hour: float | None = Field(default=None, ge=0)
    """Dollars per hour of the machine."""
    tuning: dict[str, Any] | None = None
    """Of a run that tries a setting of an arm, and is never judged itself: {arm, kind, values}."""
    ceiling_return: float | None = Field(default=None, allow_inf_nan=False)
    """Highest mean episode return that can be reached; None: the environment's own."""
    solved_return: float | None = Field(default=None, allow_inf_nan=False)
    """Mean episode return that counts as solved; None: the environment's own, or 75 % of the way to the ceiling."""
    partner: str | None = None
    """Environment of the same matrix that shows everything."""
    memory_span: int | None = Field(default=None, ge=0)
    """Agent steps that the task asks to remember; None: the environment's own."""

    @property
    def stated(self) -> dict[str, Any]:
        """What the user says about the task, as fields of run.json."""
        return self.model_dump(include=STATED, exclude_none=True)

    def check_levels(self, ceiling: float | None) -> None:
        """Raises UsageError if `solved_return` is above the ceiling: the stated one, else `ceiling`, that of the
        environment, which says nothing of another metric."""
        own = ceiling if self.metric == "return" else None
        check_levels(own if self.ceiling_return is None else self.ceiling_return, self.solved_return)


RESUMABLE = (
    "trainer.device", "trainer.threads", "trainer.checkpoint_minutes", "trainer.preemption_seconds",
    "trainer.rank_timeout_seconds", "trainer.exit_seconds", "trainer.profile", "trainer.graph", "cortex.compile",
    "evaluation.horizon_episodes", "labels", "loggers", "wandb", "recipe", "force", "env.backend", "env.workers",
)  # fmt: skip
"""Keys of TrainConfig that may differ when a run is resumed: they do not change the experiment."""


class TrainConfig(Config):
    """One training run. Recipes return it; KEY=VALUE on the command line overrides its fields by their dotted names."""

    run: RunName | None = None
    """The run's name, which is its identity: an existing run of this name is resumed."""
    recipe: str | None = None
    """Dotted name of its recipe; the command line fills it in."""
    force: bool = False
    """Resume the run although the code of its environment has changed."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the weights, the environments and the actions."""
    loggers: Loggers = Field(default=["wandb"])
    """Where metrics go beside metrics.jsonl: wandb, tensorboard, csv, mlflow (docs/monitor.md); []: nowhere."""
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
        """The arm's name in the answer: its label, else pattern and memory."""
        if self.labels.arm:
            return self.labels.arm
        pattern = self.cortex.pattern if isinstance(self.cortex.pattern, str) else "-".join(self.cortex.pattern)
        window = f"_memlen{self.cortex.mem_len}" if tokens_in(self.cortex.pattern) & ATTENTION else ""
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
