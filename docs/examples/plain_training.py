"""Pre-train SkeletonCLR in a plain loop of PyTorch; the same command goes on where it was stopped.

    python docs/examples/plain_training.py DATASET --out plain.pt
    torchrun --nproc-per-node 2 docs/examples/plain_training.py DATASET --out plain.pt

Processes share each batch. Unlike `skelpipe pretrain`, batch normalisation sees each process's share only.
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.loader import Loader, Stream
from skelpipe.models.build import build_method
from skelpipe.models.method import Progress
from skelpipe.models.moco import MoCo

RANK, WORLD = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def keys_of_all(keys: Tensor) -> Tensor:
    shares = [torch.empty_like(keys) for _ in range(WORLD)]
    dist.all_gather(shares, keys.contiguous())
    return torch.cat(shares)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--out", type=Path, default=Path("plain.pt"))
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=128, help="of all processes; a multiple of their number")
    parser.add_argument("--queue", type=int, default=32768)
    parser.add_argument("--width", type=int, default=16, help="channels of ST-GCN's first block")
    parser.add_argument("--save-every", type=int, default=500, help="steps")
    parser.add_argument("--stop-after", type=int, default=0, help="steps, 0: never")
    args = parser.parse_args(arguments)

    device = torch.device("cuda", RANK % torch.cuda.device_count()) if torch.cuda.is_available() else "cpu"
    if WORLD > 1:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    dataset = Dataset.open(args.dataset)
    torch.manual_seed(0)
    recipe = {"method": "skeletonclr", "queue": args.queue, "encoder": {"name": "stgcn", "width": args.width}}
    method = build_method(recipe, dataset.layout).to(device).train()
    for module in method.modules():
        if isinstance(module, MoCo) and WORLD > 1:
            module.gather = keys_of_all
    optimiser = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    stream = Stream(dataset, "train", ["joint"], args.batch_size, rank=RANK, world=WORLD)
    loader = Loader(stream, device, method.views())
    done = 0  # steps
    if args.out.is_file():
        saved = torch.load(args.out, map_location=device, weights_only=True)
        method.load_state_dict(saved["method"])
        optimiser.load_state_dict(saved["optimiser"])
        loader.load_state_dict(saved["loader"])
        done = saved["done"]
    while stream.epoch < args.epochs:
        for batch in loader:
            method.advance(Progress(batch.epoch, args.epochs, batch.step, len(loader)))
            torch.manual_seed(WORLD * done + RANK)  # dropout is a function of the step: nothing to save
            loss = method(batch).loss
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            for parameter in method.parameters() if WORLD > 1 else ():
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad.div_(WORLD))
            optimiser.step()
            method.finish()
            done += 1
            last = (stream.epoch, stream.step) == (args.epochs, 0)
            if RANK == 0 and (last or done % args.save_every == 0 or done == args.stop_after):
                print(f"epoch {batch.epoch + 1}, step {batch.step + 1} of {len(loader)}: loss {loss:.4f}")
                states = {"method": method, "optimiser": optimiser, "loader": loader}
                content = {name: each.state_dict() for name, each in states.items()}
                torch.save({**content, "done": done}, args.out.with_suffix(".new"))
                args.out.with_suffix(".new").replace(args.out)
            if done == args.stop_after:
                return loader.close()
    loader.close()


if __name__ == "__main__":
    main()
