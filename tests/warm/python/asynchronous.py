import asyncio


async def main():
    await asyncio.sleep(0)
    print("within")
    raise ValueError("text")


asyncio.run(main())
