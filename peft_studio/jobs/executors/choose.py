"""Which executor the settings ask for."""

from peft_studio.jobs.executors.base import Executor
from peft_studio.jobs.executors.gpu_placement import GpuPlaces
from peft_studio.jobs.executors.local import LocalExecutor
from peft_studio.jobs.executors.ray.executor import RayExecutor
from peft_studio.processes.warm_client import WarmClient
from peft_studio.settings import Settings


def make_executor(settings: Settings, warm: WarmClient, places: GpuPlaces) -> Executor:
    """The executor that the settings name.

    Raises:
        ConfigError: It needs Ray, which is not installed.
    """
    if settings.executor == "local":
        return LocalExecutor(warm, settings.threads, places=places, public=settings.public)
    request = (float(settings.threads) if settings.ray_cpus is None else settings.ray_cpus, settings.ray_gpus)
    return RayExecutor(settings.home, settings.threads, settings.ray_address, request)
