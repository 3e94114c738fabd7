from typing import TypedDict

class Info(TypedDict):
    openmp: bool
    max_threads: int
    cpu_path: str
    cpu_paths: list[str]
    compiler: str

class StepWorkspace: ...

def info() -> Info: ...
